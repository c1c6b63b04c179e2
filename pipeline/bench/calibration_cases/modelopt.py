"""NVIDIA ModelOpt's histogram calibrator at the places of our quantizers: collecting and computing."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.bench.calibration_cases.workload import (
    arrays,
    float_model,
    forward,
    quantized_model,
    renew,
    some,
    with_library_quantizers,
)
from pipeline.measure import latency
from pipeline.measure.memory import PeakMemory

if TYPE_CHECKING:
    from pipeline.bench.calibration_cases import Workload


def collect_and_compute(work: Workload) -> dict[str, Any]:
    """Returns the peak of collecting, the seconds of every method of computing, and the seconds of every round of
    collecting, interleaved with the plain forward pass."""
    from modelopt.torch.quantization.calib import HistogramCalibrator

    inputs, model = arrays(work), quantized_model(work)
    # pytorch-quantization's quantizers carry the calibrators: only what these do differs from its own row
    quantizers = with_library_quantizers(model, HistogramCalibrator)
    with PeakMemory() as memory:
        forward(model, inputs, work.batch_size)
        collecting = memory.peak()
        calibrators = [quantizer._calibrator for quantizer in quantizers.values()]
        computing = {
            "percentile": timed(calibrators, "percentile"),
            "mse": timed(some(calibrators), "mse"),
            "entropy": timed(some(calibrators), "entropy"),
        }
        computed = memory.peak()

    def collect() -> None:
        renew(quantizers, HistogramCalibrator)
        forward(model, inputs, work.batch_size)

    candidates: dict[str, Callable[[], object]] = {
        "float": partial(forward, float_model(work), inputs, work.batch_size),
        "modelopt": collect,
    }
    seconds = latency.interleave(candidates, warmup=1, runs=work.rounds)
    return {"seconds": seconds, "peak": collecting, "computing": computing, "computing_peak": computed}


def timed(calibrators: list[Any], method: str) -> dict[str, Any]:
    """Returns {tensors, seconds} of computing amax by one method."""
    start = time.perf_counter()
    for calibrator in calibrators:
        calibrator.compute_amax(method)
    return {"tensors": len(calibrators), "seconds": time.perf_counter() - start}
