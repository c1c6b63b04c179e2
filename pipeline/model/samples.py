"""The samples of every split, encoded; and by what a stage knows that they are others."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline import tasks
from pipeline.errors import InputError, in_short
from pipeline.files import digest_path
from pipeline.judge.evaluation import Reference, in_batches
from pipeline.model import loading
from pipeline.tasks import Arrays, _files

if TYPE_CHECKING:
    from pipeline.recipe import Recipe
    from pipeline.run import Run


def data_digest(recipe: Recipe) -> str:
    """Returns a digest of the user's data, or says that they are generated. Raises InputError for unreadable data."""
    if recipe.data is None:
        return "generated"
    try:
        return digest_path(_files.located(recipe.data))
    except OSError as error:  # a file in it that may not be read, or that went away
        where = _files.shown(Path(error.filename or recipe.data))
        raise InputError(f"data {where} cannot be read: {in_short(error)}.") from error


def encoded(split: str, recipe: Recipe, source: loading.Source, folder: Path) -> tuple[Arrays, Arrays]:
    """Returns inputs and labels of a split, as many samples as the recipe asks for.

    folder: the artifact folder, which holds the checkpoint's files that encode.
    """
    count = tasks.counts(recipe, source.task.SAMPLES)[split]
    raw = source.task.samples(recipe, source.config, split, count, folder=source.folder)
    return source.task.encode(folder, recipe, raw)


def calibration(recipe: Recipe, source: loading.Source, folder: Path) -> tuple[Arrays, str]:
    """Returns the encoded calibration inputs and their digest. Raises InputError for NaN or infinite values."""
    arrays, _ = encoded("calibration", recipe, source, folder)
    digest = hashlib.sha256()
    for name, value in arrays.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            bad = int(np.argmin(np.isfinite(value).reshape(len(value), -1).all(1)))
            raise InputError(f"calibration data: {name} of sample {bad} has NaN or infinite values.")
        digest.update(value.tobytes())
    return arrays, digest.hexdigest()


def evaluation(recipe: Recipe, source: loading.Source, folder: Path) -> tuple[Arrays, Arrays]:
    """Returns inputs and labels of the samples that judge the engine. Raises InputError where they can judge none."""
    found = encoded("evaluation", recipe, source, folder)
    loading.check_judgeable(source, recipe, found[1])
    return found


def selection(run: Run, source: loading.Source) -> Reference:
    """Returns the samples of the selection split, unseen by calibration and verdict, with float outputs."""
    from pipeline.judge.reference import float_graphs, float_session

    recipe = run.recipe
    arrays, labels = encoded("selection", recipe, source, run.workspace.folder)
    run_float = float_session(float_graphs(run.workspace)["float_ort"], recipe.verification.threads)
    return Reference(arrays, in_batches(run_float, arrays, recipe.calibration.batch_size, "float reference"), labels)
