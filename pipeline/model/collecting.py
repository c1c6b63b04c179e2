"""One pass over the calibration samples: a statistic for every quantizer, and the records that are read from them.

Several processes (`pipeline.distributed`) share the batches and give the same bytes as one: all form the same batches,
each batch is computed as a whole by one of them, on one thread, and statistics merge exactly, in any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline import distributed
from pipeline.errors import InputError
from pipeline.model import loading, merging
from pipeline.progress import track

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from calibration import ChannelStatistic, QuantizerRecord, Statistic

MOST_BATCHES = 8  # in flight: each has the activations of a forward pass in memory


@contextmanager
def batch_workers() -> Iterator[Executor]:
    """Yields as many threads as PyTorch has, each computing a batch of its own on one of them.

    The operators themselves run on one thread: on more, the last bits depend on how many there are. Seen with SegFormer
    on a CPU: oneDNN divides the sums of a 1×1 convolution, and PyTorch the vectors of a GELU, by the number of threads,
    which is the machine's in one process, and 1 under torchrun. Statistics do not mind the order of the batches.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(min(before, MOST_BATCHES), thread_name_prefix="calibrate") as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


def collect(
    model: nn.Module, arrays: dict[str, np.ndarray], batch_size: int
) -> tuple[dict[str, Statistic], dict[str, ChannelStatistic]]:
    """Returns one statistic per activation quantizer, and per channel where a weight reads it, from one pass in float.

    Quantizers that read the same tensor (query, key and value of one layer, say) share one statistic: it is fed once.
    Among several processes each feeds its share of the batches, and rank 0 returns what all have seen.
    """
    import torch

    from calibration.errors import CalibrationError
    from pipeline.quantization import quantizers

    activations = {n: q for n, q in quantizers(model) if q.axis is None}
    for _, quantizer in quantizers(model):
        quantizer.disable_quant()
    leaders = readers_of_same_tensor(model, {name: value[:1] for name, value in arrays.items()})
    for name in set(leaders.values()):
        activations[name].enable_calib()
        activations[name]._calibrator.rename(name)
    batches = loading.unpadded_batches(arrays, batch_size)[distributed.share()]

    def forward(batch: dict[str, np.ndarray]) -> None:
        with torch.inference_mode():  # of the calling thread alone
            model(**{name: torch.from_numpy(value) for name, value in batch.items()})

    with batch_workers() as pool:
        try:
            for _ in track(pool.map(forward, batches), "calibrating", total=len(batches)):
                pass
        except CalibrationError as error:
            raise InputError(f"calibration stopped: {error}") from error
    calibrators = {name: quantizer._calibrator for name, quantizer in activations.items()}
    statistics = {name: calibrator.statistic for name, calibrator in calibrators.items()}
    channels = {
        name: calibrator.channels for name, calibrator in calibrators.items() if calibrator.channels is not None
    }
    merging.merge(statistics, channels)
    leader = {name: leaders.get(name, name) for name in activations}
    return (
        {name: statistics[leader[name]] for name in activations},
        {
            name: channels[leader[name]]
            for name, calibrator in calibrators.items()
            if leader[name] in channels and calibrator.channel_axis is not None
        },
    )


def readers_of_same_tensor(model: nn.Module, sample: dict[str, np.ndarray]) -> dict[str, str]:
    """Returns {quantizer: the one that collects for all that read the same tensor}, seen in a pass of one sample.

    It is the first whose channels are calibrated, or else the first. A quantizer not reached by the pass is absent.
    """
    import torch

    from pipeline.quantization import quantizers

    read: dict[str, torch.Tensor] = {}  # holding the tensors keeps their identities apart
    hooks = [
        quantizer.register_forward_pre_hook(lambda _, args, name=name: read.__setitem__(name, args[0]))
        for name, quantizer in quantizers(model)
        if quantizer.axis is None
    ]
    try:
        with torch.inference_mode():
            model(**{name: torch.from_numpy(value) for name, value in sample.items()})
    finally:
        for hook in hooks:
            hook.remove()
    by_channel = {name for name, q in quantizers(model) if q.axis is None and q._calibrator.channel_axis is not None}
    first: dict[int, str] = {}
    for name in sorted(read, key=lambda name: name not in by_channel):  # stable: in the order of the pass otherwise
        first.setdefault(id(read[name]), name)
    return {name: first[id(tensor)] for name, tensor in read.items()}


def activation_record(name: str, statistic: Statistic, samples: int, percentiles: Sequence[float]) -> QuantizerRecord:
    from calibration import QuantizerRecord

    return QuantizerRecord.from_statistic(
        statistic, name=name, kind="activation", samples=samples, percentiles=tuple(percentiles)
    )


def weight_records(model: nn.Module) -> list[QuantizerRecord]:
    """Returns the records of every weight: its per-channel max."""
    from pipeline.quantization import quantizers

    weights = [(name, q.axis, model.get_submodule(name.rpartition(".")[0])) for name, q in quantizers(model)]
    with batch_workers() as pool:  # NumPy lets go of the interpreter while it computes
        return list(pool.map(lambda found: weight_record(*found), (w for w in weights if w[1] is not None)))


def weight_record(name: str, axis: int, owner: Any) -> QuantizerRecord:
    from calibration import QuantizerRecord, weight_amax

    weight = owner.weight.detach().numpy()
    amax = {"max": weight_amax(weight, axis, name=name).tolist()}
    return QuantizerRecord(name=name, kind="weight", axis=axis, amax=amax, elements=int(weight.size))
