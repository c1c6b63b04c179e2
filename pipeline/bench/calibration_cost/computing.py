"""Time of computing every amax from the statistics, and the proof that pytorch-quantization computes the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from calibration import compute_all, compute_amax, weight_amax
from pipeline.bench.calibration_cost import checks
from pipeline.bench.calibration_cost.collecting import library_calibrator, ours, theirs
from pipeline.bench.calibration_cost.workload import some
from pipeline.measure.memory import PeakMemory

if TYPE_CHECKING:
    from torch import nn

    from pipeline.bench.calibration_cost.workload import Workload


def ours_and_library(work: Workload) -> dict[str, Any]:
    """Returns the seconds of all our methods together and of each, of the library's entropy, and the checks."""
    inputs, model = work.inputs(), work.quantized_model()
    statistics = ours(work, inputs, model)()
    weights = weights_of(model)
    with PeakMemory() as memory:
        # first of all, with nothing prepared: the tables that the searches share are made here
        on_activations = timed(statistics.values(), compute_all)
        on_weights = timed(weights, lambda w: weight_amax(*w))
        peak = memory.peak()
    few = some(list({id(s): name for name, s in reversed(statistics.items())}.values())[::-1])
    entropy: dict[str, float] = {}
    library = timed(few, lambda name: entropy.update({name: checks.library_entropy(statistics[name])}))
    methods = {
        method: timed(statistics.values(), partial(compute_amax, method=method))
        for method in ("percentile", "mse", "entropy")
    }
    calibrators = theirs(work, inputs, lambda: checks.Pair(library_calibrator))()
    return {
        "activations": on_activations,
        "weights": on_weights,
        "peak": peak,
        "ours": methods,
        "library": {"entropy": library},
        "checks": [
            checks.check_entropy(statistics, entropy),
            checks.check_max(statistics, calibrators),
            *(checks.check_percentile(statistics, calibrators, p) for p in checks.PERCENTILES),
            checks.MSE,
        ],
    }


def timed(tensors: Iterable[Any], compute: Callable[[Any], object]) -> dict[str, Any]:
    """Returns {tensors, seconds} of computing for one after another."""
    tensors = list(tensors)
    start = time.perf_counter()
    for tensor in tensors:
        compute(tensor)
    return {"tensors": len(tensors), "seconds": time.perf_counter() - start}


def weights_of(model: nn.Module) -> list[tuple[Any, int]]:
    """Returns (weight, axis of its channels) of every quantized weight."""
    from pipeline.quantization import quantizers

    found = []
    for name, quantizer in quantizers(model):
        if quantizer.axis is not None:
            owner: Any = model.get_submodule(name.rpartition(".")[0])
            found.append((owner.weight.detach().numpy(), quantizer.axis))
    return found
