"""select: only for CALIBRATION=auto. Scores every way to read amax on held-out samples and keeps the best."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from pipeline.judge import verdict
from pipeline.lowering import placement, selection
from pipeline.model import loading, samples
from pipeline.run import Run
from pipeline.stages.code import code_digest

NAME = "select"
log = logging.getLogger(__name__)


def inputs(run: Run) -> dict[str, Any]:
    recipe, name = run.recipe, run.backend.NAME
    files = ("candidates.onnx", "model.onnx", "original.onnx", "calibration.json", "calibration.npz", "quantizers.json")
    return {
        **{file: run.digest(file) for file in files},
        "backend": name,
        "data": samples.data_digest(recipe, run.sha256),
        "samples": recipe.calibration.selection_samples,
        "migration": recipe.calibration.migration,
        "placement": recipe.placement.model_dump(mode="json"),
        **placement.by_default(name, recipe.family),
        "budgets": recipe.budgets.model_dump(),
        "shapes": recipe.shapes.model_dump(exclude={"batches"}),
        "question_answering": recipe.question_answering.model_dump(),
        "seed": recipe.seed,
        "code": code_digest(__name__, run.sha256),
        **{f"version {package}": found for package, found in run.backend.version().items()},
    }


def outputs(run: Run) -> list[str]:
    return [f"{run.backend.NAME}/{selection.FILE}"]


def make(run: Run, area: Path) -> None:
    reference = samples.selection(run, loading.open_source(run.recipe))
    scratch = area / ".scratch"
    scratch.mkdir()
    scorer = selection.Scorer(run, reference, scratch)
    budgets = verdict.budgets(run.recipe.budgets, run.task)
    rows = selection.rank(list(selection.score_all(scorer, run.recipe)), budgets)
    shutil.rmtree(scratch)
    log.info("auto: %s is the best of %d on %d held-out samples", rows[0]["label"], len(rows), reference.samples)
    folder = area / run.backend.NAME
    folder.mkdir()
    chosen = {key: rows[0][key] for key in ("method", "percentile", "migration")}
    (folder / selection.FILE).write_text(json.dumps({"chosen": chosen, "rows": rows}, indent=1), encoding="utf-8")
