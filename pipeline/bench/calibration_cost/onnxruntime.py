"""ONNX Runtime's histogram calibrators on the float graph, as `quantize_static` uses them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.bench.calibration_cost.computing import timed
from pipeline.bench.calibration_cost.workload import some
from pipeline.bench.methods import _calibration_data
from pipeline.measure.memory import PeakMemory
from pipeline.model import loading

if TYPE_CHECKING:
    from pipeline.bench.calibration_cost.workload import Workload

OPERATORS = ["MatMul", "Gemm"]  # where most of our quantizers sit; None would take every tensor of the graph
LEVELS = 128  # the default of its entropy calibrator


def percentile(work: Workload) -> dict[str, Any]:
    """Returns the percentile's case, and the entropy of a few of its histograms: they have as many bins as ours."""
    from onnxruntime.quantization.calibrate import PercentileCalibrater

    found, collector = collect_and_compute(work, PercentileCalibrater)
    few = some(list(collector.get_histogram_dict().values()))
    found["computing"]["entropy"] = timed(few, lambda histogram: collector.get_entropy_threshold(histogram, LEVELS))
    return found


def entropy(work: Workload) -> dict[str, Any]:
    """Returns the entropy's case: by default its histograms have 128 bins, for 128 levels."""
    from onnxruntime.quantization.calibrate import EntropyCalibrater

    return collect_and_compute(work, EntropyCalibrater)[0]


def collect_and_compute(work: Workload, calibrater: type[Any]) -> tuple[dict[str, Any], Any]:
    """Returns the seconds of collecting and of computing with the peak of each, and the collector with the histograms.

    One round: the data of all batches are kept until the last one has run, which takes gigabytes.
    """
    inputs = work.inputs()
    made = calibrater(
        str(work.float_onnx),
        op_types_to_calibrate=OPERATORS,
        augmented_model_path=str(Path(work.scratch) / f"{calibrater.__name__}.onnx"),
    )
    made.augment_graph()
    made.infer_session = session(made.augmented_model_path, work.threads)
    with PeakMemory() as memory:
        start = time.perf_counter()
        made.collect_data(_calibration_data.reader(loading.batches(inputs, work.batch_size)))
        collected, peak = time.perf_counter(), memory.peak()
        made.compute_data()
        computed = time.perf_counter()
        found = {
            "seconds": [collected - start],
            "peak": peak,
            "computing": {made.method: {"tensors": len(made.tensors_to_calibrate), "seconds": computed - collected}},
            "computing_peak": memory.peak(),
            "bins": made.num_bins,
        }
        return found, made.collector


def session(path: str, threads: int) -> Any:
    """Returns the session that the calibrator would make, except for the number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
