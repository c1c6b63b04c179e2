"""The samples of every split, encoded; and by what a stage knows that they are others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import tasks
from pipeline.errors import InputError, in_short
from pipeline.files import digest_path, sha256
from pipeline.judge.evaluation import Reference, in_batches
from pipeline.model import loading
from pipeline.model.encoded import Encoded
from pipeline.tasks import Arrays, _files

if TYPE_CHECKING:
    from pipeline.recipe import Recipe
    from pipeline.run import Run


def data_digest(recipe: Recipe, of_file: Callable[[Path], str] = sha256) -> str:
    """Returns a digest of the user's data, or says that they are generated. Raises InputError for unreadable data.

    of_file: gives the digest of one file's bytes.
    """
    if recipe.data is None:
        return "generated"
    try:
        return digest_path(_files.located(recipe.data), of_file)
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


def stored(run: Run, source: loading.Source, split: str, folder: Path, raw: Sequence[Any] | None = None) -> Encoded:
    """Returns a split's samples, encoded by the first stage of the run that asks and kept for the others.

    folder: the checkpoint's files that encode; raw: the samples where they are read already. Raises InputError.
    """
    recipe, task = run.recipe, source.task

    def make() -> Encoded:
        count = tasks.counts(recipe, task.SAMPLES)[split]
        given = task.samples(recipe, source.config, split, count, folder=source.folder) if raw is None else raw
        return Encoded.write(run.kept.folder(split, run.workspace.folder), task, recipe, folder, given)

    return run.kept.get(split, origin(run, source), make)


def origin(run: Run, source: loading.Source) -> Hashable:
    """Returns what changes with the samples of a split, and with what they are encoded to."""
    recipe, sha256 = run.recipe, run.sha256
    shapes, counts = recipe.shapes.model_dump_json(exclude={"batches"}), tasks.counts(recipe, source.task.SAMPLES)
    asked = source.task_name, recipe.question_answering.model_dump_json(), shapes, (*counts.items(),), recipe.seed
    return digest_path(source.folder, sha256), data_digest(recipe, sha256), *asked


def calibration(recipe: Recipe, source: loading.Source, folder: Path) -> tuple[Arrays, str]:
    """Returns the encoded calibration inputs and their digest. Raises InputError for NaN or infinite values."""
    return finite(encoded("calibration", recipe, source, folder)[0])


def calibration_of(run: Run, source: loading.Source) -> tuple[Arrays, str]:
    """Returns what `calibration` does, read again where an earlier stage of the run encoded the samples."""
    kept: Encoded | None = run.kept.find("calibration", origin(run, source))
    if kept is None:  # no other stage needs them, and ranks other than 0 write nothing
        return calibration(run.recipe, source, run.workspace.folder)
    return finite(kept.read()[0])


def finite(arrays: Arrays) -> tuple[Arrays, str]:
    """Returns calibration inputs and their digest. Raises InputError for NaN or infinite values."""
    digest = hashlib.sha256()
    for name, value in arrays.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            bad = int(np.argmin(np.isfinite(value).reshape(len(value), -1).all(1)))
            raise InputError(f"calibration data: {name} of sample {bad} has NaN or infinite values.")
        digest.update(value.tobytes())
    return arrays, digest.hexdigest()


def evaluation(run: Run, source: loading.Source) -> Encoded:
    """Returns the samples that judge the engine. Raises InputError where they can judge none."""
    found = stored(run, source, "evaluation", run.workspace.folder)
    loading.check_judgeable(source, run.recipe, found.labels())
    return found


def selection(run: Run, source: loading.Source) -> Reference:
    """Returns the samples of the selection split, unseen by calibration and verdict, with float outputs."""
    from pipeline.judge.reference import float_graphs, float_session

    recipe = run.recipe
    arrays, labels = stored(run, source, "selection", run.workspace.folder).read()
    run_float = float_session(float_graphs(run.workspace)["float_ort"], recipe.verification.threads)
    return Reference(arrays, in_batches(run_float, arrays, recipe.calibration.batch_size, "float reference"), labels)
