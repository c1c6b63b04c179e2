"""NVIDIA ModelOpt's histogram calibrator at the places of our quantizers: collecting and computing."""

from __future__ import annotations

from operator import methodcaller
from typing import TYPE_CHECKING, Any

from pipeline.bench.calibration_cost.collecting import in_turns, plain, theirs
from pipeline.bench.calibration_cost.computing import timed
from pipeline.bench.calibration_cost.workload import some
from pipeline.measure.memory import PeakMemory

if TYPE_CHECKING:
    from pipeline.bench.calibration_cost.workload import Workload


def collect_and_compute(work: Workload) -> dict[str, Any]:
    """Returns the peak of collecting, the seconds of every method of computing, and the seconds of every round of
    collecting, interleaved with the plain forward pass."""
    from modelopt.torch.quantization.calib import HistogramCalibrator

    inputs = work.inputs()
    # pytorch-quantization's quantizers carry the calibrators: only what these do differs from its own row
    collect = theirs(work, inputs, HistogramCalibrator)
    with PeakMemory() as memory:
        calibrators = list(collect().values())
        collecting = memory.peak()
        computing = {
            method: timed(chosen, methodcaller("compute_amax", method))
            for method, chosen in (
                ("percentile", calibrators),
                ("mse", some(calibrators)),
                ("entropy", some(calibrators)),
            )
        }
        computed = memory.peak()
    seconds = in_turns(work, {"float": plain(work, inputs), "modelopt": collect})
    return {"seconds": seconds, "peak": collecting, "computing": computing, "computing_peak": computed}
