"""select: only for CALIBRATION=auto. Scores every way to read amax on held-out samples and keeps the best."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import backends, tasks
from pipeline.judge import verdict
from pipeline.judge.evaluation import Reference, in_batches
from pipeline.judge.reference import float_session
from pipeline.lowering import selection
from pipeline.model import loading
from pipeline.report.sections import float_graphs
from pipeline.stages import calibrate, file_digest, lower
from pipeline.stages.code import code_digest

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.recipe import Recipe

NAME = "select"
log = logging.getLogger(__name__)


def inputs(recipe: Recipe, workspace: Workspace) -> dict[str, Any]:
    name = backends.choose(recipe.backend)
    files = ("candidates.onnx", "model.onnx", "original.onnx", "calibration.json", "calibration.npz", "quantizers.json")
    return {
        **{file: file_digest(workspace, file) for file in files},
        "backend": name,
        "data": calibrate.data_digest(recipe),
        "samples": recipe.calibration.selection_samples,
        "migration": recipe.calibration.migration,
        "placement": recipe.placement.model_dump(mode="json"),
        **lower.by_default(recipe),
        "budgets": recipe.budgets.model_dump(),
        "shapes": recipe.shapes.model_dump(exclude={"batches"}),
        "seed": recipe.seed,
        "code": code_digest(__name__),
        **{f"version {package}": found for package, found in backends.get(name).version().items()},
    }


def outputs(recipe: Recipe) -> list[str]:
    return [f"{backends.choose(recipe.backend)}/{selection.FILE}"]


def run(recipe: Recipe, workspace: Workspace, area: Path) -> None:
    source = loading.open_source(recipe)
    reference = held_out(recipe, source, workspace)
    scratch = area / ".scratch"
    scratch.mkdir()
    scorer = selection.Scorer(recipe, workspace, source.task, reference, scratch)
    rows = selection.rank(list(selection.score_all(scorer, recipe)), verdict.budgets(recipe.budgets, source.task))
    shutil.rmtree(scratch)
    log.info("auto: %s is the best of %d on %d held-out samples", rows[0]["label"], len(rows), reference.samples)
    name = backends.choose(recipe.backend)
    (area / name).mkdir()
    chosen = {key: rows[0][key] for key in ("method", "percentile", "migration")}
    text = json.dumps({"chosen": chosen, "rows": rows}, indent=1)
    (area / name / selection.FILE).write_text(text, encoding="utf-8")


def held_out(recipe: Recipe, source: loading.Source, workspace: Workspace) -> Reference:
    """Returns the samples of the selection split, unseen by calibration and verdict, with float outputs."""
    count = tasks.counts(recipe, source.task.SAMPLES)["selection"]
    raw = source.task.samples(recipe, source.config, "selection", count, folder=source.folder)
    arrays, labels = source.task.encode(workspace.folder, recipe, raw)
    run_float = float_session(float_graphs(workspace)["float_ort"], recipe.verification.threads)
    return Reference(arrays, in_batches(run_float, arrays, recipe.calibration.batch_size, "float reference"), labels)
