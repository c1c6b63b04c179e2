"""Which calibration method a run uses: the recipe's, or for `auto` the one that scores best on held-out samples.

Every way to read amax from the statistics is built into an engine of the chosen backend, whose predictions are judged
like the final engine's: by the task metric and by agreement with the float model. None of them needs another forward
pass through the quantizers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import backends
from pipeline.files import sha256
from pipeline.judge.accuracy import accuracy
from pipeline.judge.evaluation import Reference, one_by_one, read_json
from pipeline.lowering import Candidates, Choice, Lowered
from pipeline.recipe import Budgets, Recipe

if TYPE_CHECKING:
    from calibration import CalibrationTable
    from pipeline.run import Run
    from pipeline.tasks import Task

log = logging.getLogger(__name__)

FILE = "selection.json"
AUTO = "auto"
SHOWN = ("metric", "float", "engine", "relative_drop", "agreement", "sqnr_db", "samples")


def is_asked(recipe: Recipe) -> bool:
    """Returns whether the recipe asks for the method to be chosen by score."""
    return recipe.calibration.method == AUTO


def automatic(recipe: Recipe) -> Recipe:
    """Returns the recipe with the method chosen by score; only such a recipe has a selection split of its data."""
    calibration = {**recipe.calibration.model_dump(), "method": AUTO}
    return Recipe.model_validate({**recipe.model_dump(), "calibration": calibration})


def choice_of(run: Run) -> Choice:
    """Returns the way to read amax. Raises ArtifactError for `auto` before the select stage ran."""
    calibration = run.recipe.calibration
    if not is_asked(run.recipe):
        return Choice(calibration.method, calibration.percentile, calibration.migration)
    chosen = read_json(run.workspace, f"{run.backend.NAME}/{FILE}")["chosen"]
    return Choice(chosen["method"], chosen["percentile"], chosen["migration"])


def choices(table: CalibrationTable, migration: bool) -> list[Choice]:
    """Returns every way to read amax that the table offers, each without and, if allowed, with migration."""
    keys = sorted({key for record in table.records.values() if record.axis is None for key in record.amax})
    parts = [key.partition("_") for key in keys]
    moves = (False, True) if migration else (False,)
    return [Choice(method, float(percent or 100.0), moved) for method, _, percent in parts for moved in moves]


class Scorer:
    """Builds and judges engines of one folder's candidates on one set of samples."""

    def __init__(self, run: Run, reference: Reference, area: Path) -> None:
        self.candidates = Candidates(run)
        self._recipe, self._task, self._reference, self._area = run.recipe, run.task, reference, area
        self._seen: dict[str, dict[str, Any]] = {}  # by digest: equal graphs, say of 99.999 % and max, are judged once

    def score(self, choice: Choice) -> dict[str, Any]:
        """Returns the choice with its accuracy on the samples, as in the report's `accuracy` section."""
        graph = write(self.candidates.lower(choice), self._area)
        digest = sha256(graph)
        if digest not in self._seen:
            self._seen[digest] = scores(self._task, self._reference, self._build(graph), "scoring")
        return {"label": choice.label, **vars(choice), **self._seen[digest]}

    def engine(self, choice: Choice, folder: Path) -> backends.Engine:
        """Returns the choice's engine, built in `folder`."""
        return self._build(write(self.candidates.lower(choice), folder))

    def _build(self, graph: Path) -> backends.Engine:
        self.candidates.backend.build(graph, graph.parent / "engine", self._recipe)
        return self.candidates.backend.load(graph.parent / "engine", self._recipe.verification.threads)


def write(lowered: Lowered, folder: Path) -> Path:
    """Returns the path of a QDQ graph, checked and written to `folder`."""
    from pipeline.graph.write import write_checked

    folder.mkdir(parents=True, exist_ok=True)
    write_checked(lowered.graph, folder / "model.qdq.onnx")
    return folder / "model.qdq.onnx"


def scores(
    task: Task, reference: Reference, model: Callable[[dict[str, Any]], Mapping[str, Any]], label: str
) -> dict[str, Any]:
    """Returns the keys SHOWN of the report's `accuracy` section, of a model run on one sample at a time."""
    section, _, _ = accuracy(task, reference, one_by_one(model, reference.inputs, label))
    return {key: section[key] for key in SHOWN}


def rank(rows: Sequence[Mapping[str, Any]], budgets: Budgets) -> list[Mapping[str, Any]]:
    """Returns the rows, best first, by the sum of the shares that they use of the two accuracy budgets.

    A metric above the float model's is luck of the samples and counts as no drop. Among equals the higher SQNR wins: it
    tells apart what the metric and agreement cannot on few samples.
    """
    assert budgets.agreement is not None

    def used(row: Mapping[str, Any]) -> float:
        drop = max(row["relative_drop"], 0.0) / max(budgets.relative_drop, 1e-6)
        differing = (1.0 - row["agreement"]) / max(1.0 - float(budgets.agreement or 0.0), 1e-6)
        return float(drop + differing)

    return sorted(rows, key=lambda row: (round(used(row), 9), -row["sqnr_db"]))


def score_all(scorer: Scorer, recipe: Recipe) -> Iterator[dict[str, Any]]:
    """Yields a scored row for every choice."""
    for choice in choices(scorer.candidates.table, recipe.calibration.migration):
        row = scorer.score(choice)
        log.info(
            "%-28s %s drops %.2f%%, agreement %.4f, SQNR %.1f dB",
            row["label"], row["metric"], 100 * row["relative_drop"], row["agreement"], row["sqnr_db"],
        )  # fmt: skip
        yield row
