"""Time and memory of collecting: the plain forward pass, ours, and that of a library's calibrators.

A way of collecting is made once, with its model loaded; every call then collects all batches from nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.measure import latency
from pipeline.measure.memory import PeakMemory
from pipeline.model import collecting

if TYPE_CHECKING:
    from torch import nn

    from calibration import Statistic
    from pipeline.bench.calibration_cost.workload import Arrays, Workload


def plain(work: Workload, inputs: Arrays) -> Callable[[], object]:
    """Returns the forward pass of the float model."""
    return partial(work.forward, work.float_model(), inputs)


def ours(work: Workload, inputs: Arrays, model: nn.Module) -> Callable[[], dict[str, Statistic]]:
    """Returns what the calibrate stage does: one pass, for statistics per tensor and per channel."""

    def collect() -> dict[str, Statistic]:
        for quantizer in activations(model).values():
            quantizer._calibrator.reset()
        return collecting.collect(model, inputs, work.batch_size)[0]

    return collect


def theirs(work: Workload, inputs: Arrays, calibrator: Callable[[], Any]) -> Callable[[], dict[str, Any]]:
    """Returns collecting by pytorch-quantization's own TensorQuantizer with calibrators that `calibrator` makes.

    It stands at the place of each of ours, set as the library's guide says: quantization off, calibration on. Weights
    are left out: their maximum needs no data. Each pass has fresh calibrators, as the library's `reset` keeps the
    number of bins of the last run; it returns them by the quantizer's name.
    """
    model = work.quantized_model()
    quantizers = with_library_quantizers(model)

    def collect() -> dict[str, Any]:
        made = {name: calibrator() for name in quantizers}
        for name, quantizer in quantizers.items():
            quantizer._calibrator = made[name]
        work.forward(model, inputs)
        return made

    return collect


def with_library_quantizers(model: nn.Module) -> dict[str, Any]:
    from pytorch_quantization.nn import TensorQuantizer
    from pytorch_quantization.tensor_quant import QuantDescriptor

    from pipeline.quantization import quantizers

    for _, quantizer in quantizers(model):
        quantizer.disable()
    found = {}
    for name in activations(model):
        owner, _, attribute = name.rpartition(".")
        found[name] = TensorQuantizer(QuantDescriptor(num_bits=8, calib_method="histogram"))
        found[name].disable_quant()
        found[name].enable_calib()
        setattr(model.get_submodule(owner), attribute, found[name])
    return found


def activations(model: nn.Module) -> dict[str, Any]:
    """Returns our activation quantizers by name."""
    from pipeline.quantization import quantizers

    return {name: quantizer for name, quantizer in quantizers(model) if quantizer.axis is None}


def library_calibrator() -> Any:
    """Returns pytorch-quantization's own histogram calibrator with its defaults: 2048 bins, torch.histc."""
    from pytorch_quantization.calib import HistogramCalibrator

    return HistogramCalibrator(num_bits=8, axis=None, unsigned=False)


def in_turns(work: Workload, ways: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Returns the seconds of every round by way, interleaved, after one round of warm-up."""
    return latency.interleave(ways, warmup=1, runs=work.rounds)


def times(work: Workload) -> dict[str, Any]:
    """Returns the seconds of the plain pass, of ours and of pytorch-quantization."""
    inputs = work.inputs()
    library = theirs(work, inputs, library_calibrator)
    own = ours(work, inputs, work.quantized_model())
    return {"seconds": in_turns(work, {"float": plain(work, inputs), "ours": own, "pytorch_quantization": library})}


# The peak is taken from the loaded model on: loading holds two copies of the weights for a moment.


def float_memory(work: Workload) -> dict[str, Any]:
    """Returns the peak of the plain forward pass."""
    return peak_of(plain(work, work.inputs()))[1]


def ours_memory(work: Workload) -> dict[str, Any]:
    """Returns the peak of our collecting, and how many quantizers and different statistics there are."""
    statistics, found = peak_of(ours(work, work.inputs(), work.quantized_model()))
    different = len({id(statistic) for statistic in statistics.values()})
    return {**found, "quantizers": len(statistics), "statistics": different}


def library_memory(work: Workload) -> dict[str, Any]:
    """Returns the peak of pytorch-quantization's collecting."""
    calibrators, found = peak_of(theirs(work, work.inputs(), library_calibrator))
    return {**found, "quantizers": len(calibrators)}


def peak_of(collect: Callable[[], Any]) -> tuple[Any, dict[str, int]]:
    """Returns what one pass gives, and {peak}."""
    with PeakMemory() as memory:
        return collect(), {"peak": memory.peak()}
