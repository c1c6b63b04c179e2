"""calibrate: one pass over the calibration samples, every method's amax for every quantizer.

Several processes (`pipeline.distributed`) share the batches and give the same bytes as one: all form the same batches,
each batch is computed as a whole by one of them, on one thread, and statistics merge exactly, in any order.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import distributed, tasks
from pipeline.artifacts import Workspace
from pipeline.errors import InputError
from pipeline.files import digest_path
from pipeline.model import loading, merging
from pipeline.progress import track
from pipeline.stages import file_digest, versions
from pipeline.stages.code import code_digest
from pipeline.tasks import _files

if TYPE_CHECKING:
    from torch import nn

    from calibration import ChannelStatistic, QuantizerRecord, Statistic
    from pipeline.recipe import Recipe

NAME = "calibrate"
log = logging.getLogger(__name__)

PERCENTILES = (99.9, 99.99, 99.999)
MOST_BATCHES = 8  # in flight: each has the activations of a forward pass in memory


def inputs(recipe: Recipe, workspace: Workspace) -> dict[str, Any]:
    return {
        "quantizers.json": file_digest(workspace, "quantizers.json"),
        "checkpoint": workspace.manifest.stages.get("quantize", {}).get("inputs", {}).get("checkpoint"),
        "data": data_digest(recipe),
        "samples": recipe.calibration.samples,
        "batch_size": recipe.calibration.batch_size,
        "percentiles": percentiles(recipe),
        "shapes": recipe.shapes.model_dump(exclude={"batches"}),
        "seed": recipe.seed,
        "code": code_digest(__name__),
        **versions("torch", "transformers"),
    }


def data_digest(recipe: Recipe) -> str:
    """Returns a digest of the user's data, or says that they are generated. Raises InputError for unreadable data."""
    if recipe.data is None:
        return "generated"
    try:
        return digest_path(_files.located(recipe.data))
    except OSError as error:  # a file in it that may not be read, or that went away
        where = _files.shown(Path(error.filename or recipe.data))
        raise InputError(f"data {where} cannot be read: {_files.reason(error)}.") from error


def percentiles(recipe: Recipe) -> list[float]:
    return sorted({*PERCENTILES, recipe.calibration.percentile})


def outputs(recipe: Recipe) -> list[str]:
    return ["calibration.json", "calibration.npz"]


def run(recipe: Recipe, workspace: Workspace, area: Path) -> None:
    from calibration import CalibrationTable
    from calibration.histograms import write_histograms

    source = loading.open_source(recipe)
    arrays, digest = samples(recipe, source, workspace.folder)
    model = loading.quantized_model(source, recipe)
    statistics, channels = collect(model, arrays, recipe.calibration.batch_size)
    count = len(next(iter(arrays.values())))
    records = [
        *(activation_record(name, s, count, percentiles(recipe)) for name, s in statistics.items()),
        *weight_records(model),
    ]
    table = CalibrationTable(
        data_digest=digest,
        samples=count,
        batches=max(statistic.batches for statistic in statistics.values()),
        versions=versions("torch", "transformers", "numpy"),
        records={record.name: record for record in records},
    )
    for record in records:
        if record.degenerate:
            log.warning("%s stays float: %s", record.name, record.degenerate)
    table.write(area / "calibration.json")
    write_histograms(area / "calibration.npz", statistics, channels)


def assist(recipe: Recipe, workspace: Workspace) -> None:
    """Collects from this rank's share of the batches, for rank 0."""
    source = loading.open_source(recipe)
    arrays, _ = samples(recipe, source, workspace.folder)
    model = loading.quantized_model(source, recipe)
    collect(model, arrays, recipe.calibration.batch_size)


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


def samples(recipe: Recipe, source: loading.Source, folder: Path) -> tuple[dict[str, np.ndarray], str]:
    """Returns the encoded calibration inputs and their digest. Raises InputError for NaN or infinite values."""
    count = tasks.counts(recipe, source.task.SAMPLES)["calibration"]
    raw = source.task.samples(recipe, source.config, "calibration", count, folder=source.folder)
    arrays, _ = source.task.encode(folder, recipe, raw)
    digest = hashlib.sha256()
    for name, value in arrays.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            bad = int(np.argmin(np.isfinite(value).reshape(len(value), -1).all(1)))
            raise InputError(f"calibration data: {name} of sample {bad} has NaN or infinite values.")
        digest.update(value.tobytes())
    return arrays, digest.hexdigest()


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
