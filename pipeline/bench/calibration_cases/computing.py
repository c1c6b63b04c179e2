"""Time of computing every amax from the statistics, and the proof that pytorch-quantization computes the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from calibration import Statistic, compute_all, compute_amax, weight_amax
from pipeline.bench.calibration_cases import Workload, checks
from pipeline.bench.calibration_cases.collecting import library_calibrator, ours
from pipeline.bench.calibration_cases.workload import arrays, forward, quantized_model, some, with_library_quantizers
from pipeline.measure.memory import PeakMemory

if TYPE_CHECKING:
    from torch import nn


def ours_and_library(work: Workload) -> dict[str, Any]:
    """Returns the seconds of all our methods together and of each, of the library's entropy, and the checks."""
    inputs, model = arrays(work), quantized_model(work)
    statistics, _ = ours(model, inputs, work.batch_size)
    with PeakMemory() as memory:
        # first of all, with nothing prepared: the tables that the searches share are made here
        activations = timed(len(statistics), lambda: [compute_all(s) for s in statistics.values()])
        weights = timed_weights(model)
        peak = memory.peak()
    few = some(list({id(s): name for name, s in reversed(statistics.items())}.values())[::-1])
    entropy: dict[str, float] = {}
    library = timed(len(few), lambda: entropy.update((n, checks.library_entropy(statistics[n])) for n in few))
    methods = ("percentile", "mse", "entropy")
    return {
        "activations": activations,
        "weights": weights,
        "peak": peak,
        "ours": {m: timed(len(statistics), partial(each, statistics, m)) for m in methods},
        "library": {"entropy": library},
        "checks": [checks.check_entropy(statistics, entropy), *library_checks(work, inputs, statistics)],
    }


def timed(tensors: int, compute: Callable[[], object]) -> dict[str, Any]:
    """Returns {tensors, seconds} of one call."""
    start = time.perf_counter()
    compute()
    return {"tensors": tensors, "seconds": time.perf_counter() - start}


def each(statistics: dict[str, Statistic], method: str) -> list[float]:
    return [compute_amax(statistic, method) for statistic in statistics.values()]


def timed_weights(model: nn.Module) -> dict[str, Any]:
    """Returns {tensors, seconds} of max and mse of every weight, per channel."""
    from pipeline.quantization import quantizers

    found = []
    for name, quantizer in quantizers(model):
        if quantizer.axis is not None:
            owner: Any = model.get_submodule(name.rpartition(".")[0])
            found.append((owner.weight.detach().numpy(), quantizer.axis))
    return timed(len(found), lambda: [weight_amax(w, axis, m) for w, axis in found for m in ("max", "mse")])


def library_checks(work: Workload, inputs: dict[str, Any], statistics: dict[str, Statistic]) -> list[Any]:
    """Returns the checks of max and the percentiles, from what the library collects on the same batches."""
    model = quantized_model(work)
    quantizers = with_library_quantizers(model, lambda: checks.Pair(library_calibrator))
    forward(model, inputs, work.batch_size)
    theirs = {name: quantizer._calibrator for name, quantizer in quantizers.items()}
    return [
        checks.check_max(statistics, theirs),
        *(checks.check_percentile(statistics, theirs, p) for p in checks.PERCENTILES),
        checks.MSE,
    ]
