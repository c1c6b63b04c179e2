"""calibrate: one pass over the calibration samples, every method's amax for every quantizer."""

from __future__ import annotations

import hashlib
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import prepare
from pipeline.artifacts import Workspace, digest_path
from pipeline.errors import InputError
from pipeline.progress import track
from pipeline.recipe import Recipe
from pipeline.stages import code_digest, file_digest, versions

if TYPE_CHECKING:
    from torch import nn

    from calibration import QuantizerRecord, Statistic

NAME = "calibrate"
log = logging.getLogger(__name__)

PERCENTILES = (99.9, 99.99, 99.999)


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
        "code": code_digest("../calibration", "tasks", "families", "quantization", "prepare.py", "stages/calibrate.py"),
        **versions("torch", "transformers"),
    }


def data_digest(recipe: Recipe) -> str:
    """Returns a digest of the user's data, or says that the generator is used. Raises InputError when it is missing."""
    if recipe.data is None:
        return "generated"
    path = Path(recipe.data).expanduser()
    if not path.exists():
        raise InputError(f"DATA={recipe.data}: there is no such file or folder.")
    return digest_path(path)


def percentiles(recipe: Recipe) -> list[float]:
    return sorted({*PERCENTILES, recipe.calibration.percentile})


def outputs(recipe: Recipe) -> list[str]:
    return ["calibration.json", "calibration.npz"]


def run(recipe: Recipe, workspace: Workspace, area: Path) -> None:
    from calibration import store

    source = prepare.open_source(recipe)
    arrays, digest = samples(recipe, source, workspace.folder)
    start = time.perf_counter()
    model = prepare.quantized_model(source, recipe)
    statistics = collect(model, arrays, recipe.calibration.batch_size)
    records = [
        *(activation_record(model, name, s, recipe) for name, s in statistics.items()),
        *weight_records(model),
    ]
    table = store.CalibrationTable(
        method=recipe.calibration.method,
        percentile=recipe.calibration.percentile,
        data_digest=digest,
        samples=recipe.calibration.samples,
        batches=max(statistic.batches for statistic in statistics.values()),
        seconds=round(time.perf_counter() - start, 3),
        versions=versions("torch", "transformers", "numpy"),
        records={record.name: record for record in records},
    )
    for record in records:
        if record.degenerate:
            log.warning("%s stays float: %s", record.name, record.degenerate)
    table.write(area / "calibration.json")
    store.write_histograms(area / "calibration.npz", statistics)


def samples(recipe: Recipe, source: prepare.Source, folder: Path) -> tuple[dict[str, np.ndarray], str]:
    """Returns the encoded calibration inputs and their digest. Raises InputError for NaN or infinite values."""
    raw = source.task.samples(recipe, source.config, "calibration", recipe.calibration.samples)
    arrays, _ = source.task.encode(folder, recipe, raw)
    digest = hashlib.sha256()
    for name, value in arrays.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            bad = int(np.argmin(np.isfinite(value).reshape(len(value), -1).all(1)))
            raise InputError(f"calibration data: {name} of sample {bad} has NaN or infinite values.")
        digest.update(value.tobytes())
    return arrays, digest.hexdigest()


def collect(model: nn.Module, arrays: dict[str, np.ndarray], batch_size: int) -> dict[str, Statistic]:
    """Returns one statistic per activation quantizer, fed by forward passes in float.

    Quantizers that read the same tensor (query, key and value of one layer, say) share one statistic: it is fed once.
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
        activations[name]._calibrator.statistic.name = name
    count = len(next(iter(arrays.values())))
    with torch.inference_mode():
        for batch in track(prepare.batches(arrays, batch_size), "calibrating", total=-(-count // batch_size)):
            try:
                model(**{name: torch.from_numpy(value) for name, value in batch.items()})
            except CalibrationError as error:
                raise InputError(f"calibration stopped: {error}") from error
    return {name: activations[leaders.get(name, name)]._calibrator.statistic for name in activations}


def readers_of_same_tensor(model: nn.Module, sample: dict[str, np.ndarray]) -> dict[str, str]:
    """Returns {quantizer: the first quantizer that reads the same tensor}, seen in one forward pass of one sample.

    A quantizer that the pass does not reach is absent.
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
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in read.items()}


def activation_record(model: nn.Module, name: str, statistic: Statistic, recipe: Recipe) -> QuantizerRecord:
    from calibration import QuantizerRecord

    return QuantizerRecord.from_statistic(
        statistic,
        name=name,
        kind="activation",
        samples=recipe.calibration.samples,
        percentiles=tuple(percentiles(recipe)),
    )


def weight_records(model: nn.Module) -> list[QuantizerRecord]:
    """Returns the records of every weight: per-channel max, and the mse-optimal amax as an option."""
    from calibration import QuantizerRecord, weight_amax
    from pipeline.quantization import quantizers

    records = []
    for name, quantizer in quantizers(model):
        if quantizer.axis is None:
            continue
        owner: Any = model.get_submodule(name.rpartition(".")[0])
        weight = owner.weight.detach().numpy()
        amax = {method: weight_amax(weight, quantizer.axis, method).tolist() for method in ("max", "mse")}
        records.append(
            QuantizerRecord(name=name, kind="weight", axis=quantizer.axis, amax=amax, elements=int(weight.size))
        )
    return records
