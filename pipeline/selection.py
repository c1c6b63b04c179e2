"""Which calibration method a run uses: the recipe's, or for `auto` the one that scores best on held-out samples.

Every way to read amax from the statistics becomes an engine of the chosen backend, and its predictions are judged like
the final engine's: by the task metric and by agreement with the float model. No forward pass through the quantizers is
needed for any of them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pipeline import backends, verdict
from pipeline.artifacts import Workspace, sha256
from pipeline.evaluation import Reference, one_by_one, read_json
from pipeline.lowering import Candidates, Choice
from pipeline.measures import accuracy
from pipeline.recipe import Budgets, Recipe

if TYPE_CHECKING:
    from calibration import CalibrationTable

log = logging.getLogger(__name__)

FILE = "selection.json"
AUTO = "auto"
SHOWN = ("metric", "float", "engine", "relative_drop", "agreement", "sqnr_db", "samples")


def is_asked(recipe: Recipe) -> bool:
    """Returns whether the method is to be chosen by score."""
    return recipe.calibration.method == AUTO


def choice_of(recipe: Recipe, workspace: Workspace) -> Choice:
    """Returns the way to read amax. Raises ArtifactError for `auto` before the select stage ran."""
    calibration = recipe.calibration
    if not is_asked(recipe):
        return Choice(calibration.method, calibration.percentile, calibration.migration)
    chosen = read_json(workspace, f"{backends.choose(recipe.backend)}/{FILE}")["chosen"]
    return Choice(chosen["method"], chosen["percentile"], chosen["migration"])


def choices(table: CalibrationTable, migration: bool) -> list[Choice]:
    """Returns every way to read amax that the table has, each without and, where allowed, with migration."""
    keys = sorted({key for record in table.records.values() if record.axis is None for key in record.amax})
    found = []
    for key in keys:
        method, _, percentile = key.partition("_")
        for moved in (False, True) if migration else (False,):
            found.append(Choice(method, float(percentile) if percentile else 100.0, moved))
    return found


class Scorer:
    """Builds and judges engines of one folder's candidates on one set of samples."""

    def __init__(
        self, recipe: Recipe, workspace: Workspace, task: ModuleType, reference: Reference, area: Path
    ) -> None:
        self.candidates = Candidates(recipe, workspace)
        self._recipe, self._task, self._reference, self._area = recipe, task, reference, area
        self._seen: dict[str, dict[str, Any]] = {}  # equal graphs, as of 99.999 % and max, are judged once

    def score(self, choice: Choice) -> dict[str, Any]:
        """Returns the choice with its accuracy on the samples, as in the report's `accuracy` section."""
        from pipeline.graph.write import write_checked

        graph = self._area / "model.qdq.onnx"
        write_checked(self.candidates.lower(choice).graph, graph)
        digest = sha256(graph)
        if digest not in self._seen:
            self._seen[digest] = self._judge(graph)
        return {"label": choice.label, **vars(choice), **self._seen[digest]}

    def engine(self, choice: Choice, folder: Path) -> backends.Engine:
        """Returns the choice's engine, built in `folder`."""
        from pipeline.graph.write import write_checked

        folder.mkdir(parents=True)
        write_checked(self.candidates.lower(choice).graph, folder / "model.qdq.onnx")
        return self._build(folder / "model.qdq.onnx", folder / "engine")

    def _build(self, graph: Path, folder: Path) -> backends.Engine:
        self.candidates.backend.build(graph, folder, self._recipe)
        return self.candidates.backend.load(folder, self._recipe.verification.threads)

    def _judge(self, graph: Path) -> dict[str, Any]:
        engine = self._build(graph, self._area / "engine")
        found = one_by_one(engine, self._reference.inputs, "scoring")
        section, _, _ = accuracy(self._task, self._reference, found)
        return {key: section[key] for key in SHOWN}


def rank(rows: Sequence[Mapping[str, Any]], budgets: Budgets) -> list[Mapping[str, Any]]:
    """Returns the rows, best first: by the shares of the two accuracy budgets that are used up, added.

    A metric above the float model's is luck of the samples and counts as no drop. Among equals the higher SQNR wins, it
    resolves what neither the metric nor agreement can on few samples.
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


def budgets_of(recipe: Recipe, task: ModuleType) -> Budgets:
    """Returns the budgets that weigh the two measures."""
    return verdict.budgets(recipe.budgets, task)
