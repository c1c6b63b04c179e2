"""Time and memory of collecting: the plain forward pass, ours, pytorch-quantization's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.bench.calibration_cases.workload import (
    activations,
    arrays,
    float_model,
    forward,
    quantized_model,
    renew,
    with_library_quantizers,
)
from pipeline.measure import latency
from pipeline.measure.memory import PeakMemory
from pipeline.stages import calibrate

if TYPE_CHECKING:
    from torch import nn

    from calibration import Statistic
    from pipeline.bench.calibration_cases import Workload
    from pipeline.bench.calibration_cases.workload import Arrays


def library_calibrator() -> Any:
    """Returns pytorch-quantization's own histogram calibrator with its defaults: 2048 bins, torch.histc."""
    from pytorch_quantization.calib import HistogramCalibrator

    return HistogramCalibrator(num_bits=8, axis=None, unsigned=False)


def ours(model: nn.Module, inputs: Arrays, batch_size: int) -> tuple[dict[str, Statistic], object]:
    """Returns the statistics of one pass, per tensor and per channel, from nothing: what the calibrate stage does."""
    for quantizer in activations(model).values():
        quantizer._calibrator.reset()
    return calibrate.collect(model, inputs, batch_size)


def theirs(model: nn.Module, quantizers: dict[str, Any], inputs: Arrays, batch_size: int) -> None:
    """Collects from nothing with pytorch-quantization."""
    renew(quantizers, library_calibrator)
    forward(model, inputs, batch_size)


def times(work: Workload) -> dict[str, Any]:
    """Returns the seconds of every round by way of collecting, interleaved, after one round of warm-up."""
    inputs, size = arrays(work), work.batch_size
    plain, own, library = float_model(work), quantized_model(work), quantized_model(work)
    quantizers = with_library_quantizers(library, library_calibrator)
    candidates: dict[str, Callable[[], object]] = {
        "float": partial(forward, plain, inputs, size),
        "ours": partial(ours, own, inputs, size),
        "pytorch_quantization": partial(theirs, library, quantizers, inputs, size),
    }
    return {"seconds": latency.interleave(candidates, warmup=1, runs=work.rounds)}


# The peak is taken from the loaded model on: loading holds two copies of the weights for a moment.


def float_memory(work: Workload) -> dict[str, Any]:
    """Returns the peak of the plain forward pass."""
    inputs, model = arrays(work), float_model(work)
    with PeakMemory() as memory:
        forward(model, inputs, work.batch_size)
        return {"peak": memory.peak()}


def ours_memory(work: Workload) -> dict[str, Any]:
    """Returns the peak of our collecting, and how many quantizers and different statistics there are."""
    inputs, model = arrays(work), quantized_model(work)
    with PeakMemory() as memory:
        statistics, _ = ours(model, inputs, work.batch_size)
        peak = memory.peak()
    different = len({id(statistic) for statistic in statistics.values()})
    return {"peak": peak, "quantizers": len(statistics), "statistics": different}


def library_memory(work: Workload) -> dict[str, Any]:
    """Returns the peak of pytorch-quantization's collecting."""
    inputs, model = arrays(work), quantized_model(work)
    quantizers = with_library_quantizers(model, library_calibrator)
    with PeakMemory() as memory:
        theirs(model, quantizers, inputs, work.batch_size)
        return {"peak": memory.peak(), "quantizers": len(quantizers)}
