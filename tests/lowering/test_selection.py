"""CALIBRATION=auto: every way to read amax is judged on samples of its own, the best wins and is what gets built."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calibration import CalibrationTable
from pipeline import stages, tasks
from pipeline.artifacts import Workspace
from pipeline.bench import methods, quality
from pipeline.bench.tables import quality as page
from pipeline.errors import ArtifactError
from pipeline.judge import verdict
from pipeline.lowering import Candidates, Choice, selection
from pipeline.recipe import Budgets, Recipe
from pipeline.run import Run

BUDGETS = Budgets(relative_drop=0.01, agreement=0.95)  # type: ignore[call-arg]
WAYS = {"max", "mse", "entropy", "percentile_99.9", "percentile_99.99", "percentile_99.999"}


def row(label: str, drop: float, agreement: float, sqnr: float) -> dict[str, Any]:
    return {"label": label, "relative_drop": drop, "agreement": agreement, "sqnr_db": sqnr}


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ((0.001, 0.99, 20), (0.004, 0.99, 30)),  # less drop
        ((0.004, 0.99, 20), (0.004, 0.97, 30)),  # more agreement
        ((0.002, 0.98, 20), (0.0, 0.96, 30)),  # 0.2 + 0.4 of the budgets against 0 + 0.8
        ((0.0, 0.98, 31), (-0.02, 0.98, 30)),  # a gain is luck: the SQNR decides
    ],
)
def test_the_smaller_share_of_the_budgets_wins(better: Any, worse: Any) -> None:
    rows = [row("worse", *worse), row("better", *better)]
    assert [r["label"] for r in selection.rank(rows, BUDGETS)] == ["better", "worse"]


def test_a_budget_of_nothing_divides_by_no_zero() -> None:
    strict = Budgets(relative_drop=0.0, agreement=1.0)  # type: ignore[call-arg]
    rows = [row("differs", 0.0, 0.999, 40), row("equal", 0.0, 1.0, 10)]
    assert selection.rank(rows, strict)[0]["label"] == "equal"


@pytest.fixture(scope="module")
def automatic(exported: Callable[[str], Recipe], tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Returns the recipe of a tiny BERT whose folder holds everything up to the chosen method's graph."""
    source = exported("bert")
    folder = Path(shutil.copytree(source.folder, tmp_path_factory.mktemp("auto") / "bert"))
    calibration = source.calibration.model_copy(update={"method": "auto", "selection_samples": 6})
    verification = source.verification.model_copy(update={"samples": 6})
    recipe = source.model_copy(
        update={"folder": folder, "calibration": calibration, "verification": verification, "backend": "onnxruntime"}
    )
    for name in ("select", "lower"):
        stages.run(name, recipe)
    return recipe


def document(recipe: Recipe, name: str) -> Any:
    return json.loads(Workspace(recipe.folder).path(f"onnxruntime/{name}").read_text())


def test_every_method_is_scored_without_and_with_migration(automatic: Recipe) -> None:
    rows = document(automatic, "selection.json")["rows"]
    assert {r["label"] for r in rows} == {label + end for label in WAYS for end in ("", " + migration")}
    assert all(r["samples"] == 6 and 0 <= r["agreement"] <= 1 for r in rows)
    table = CalibrationTable.read(automatic.folder / "calibration.json")
    without = selection.choices(table, migration=False)
    assert {choice.label for choice in without} == WAYS


def test_the_best_row_is_the_choice_and_the_choice_is_what_was_lowered(automatic: Recipe) -> None:
    found = document(automatic, "selection.json")
    budgets = verdict.budgets(automatic.budgets, tasks.get("question-answering"))
    assert found["rows"] == selection.rank(found["rows"], budgets)
    best = {key: found["rows"][0][key] for key in ("method", "percentile", "migration")}
    assert found["chosen"] == best == document(automatic, "placement.json")["calibration"]
    assert selection.choice_of(Run.of(automatic)) == Choice(**best)


def test_the_graph_is_that_of_the_choice(automatic: Recipe) -> None:
    choice = selection.choice_of(Run.of(automatic))
    scales = {q["name"]: q["scale"] for q in document(automatic, "placement.json")["quantizers"] if q["enabled"]}
    again = Candidates(Run.of(automatic)).lower(choice).scales
    assert {name: scale.tolist() for name, scale in again.items()} == scales
    other = Candidates(Run.of(automatic)).lower(Choice("percentile", 99.9, False)).scales
    assert {name: scale.tolist() for name, scale in other.items()} != scales, "another choice gives other scales"


def test_only_auto_has_the_stage(automatic: Recipe) -> None:
    assert "select" in stages.order(automatic)
    calibration = automatic.calibration.model_copy(update={"method": "max"})
    assert "select" not in stages.order(automatic.model_copy(update={"calibration": calibration}))


def test_a_second_run_scores_nothing(automatic: Recipe) -> None:
    assert stages.why_stale("select", automatic) == []
    fewer = automatic.calibration.model_copy(update={"selection_samples": 5})
    assert stages.why_stale("select", automatic.model_copy(update={"calibration": fewer})) != []


def test_auto_without_the_stage_says_what_is_missing(exported: Callable[[str], Recipe]) -> None:
    source = exported("bert")
    calibration = source.calibration.model_copy(update={"method": "auto"})
    recipe = source.model_copy(update={"calibration": calibration, "backend": "onnxruntime"})
    with pytest.raises(ArtifactError, match=r"selection\.json is missing"):
        selection.choice_of(Run.of(recipe))


def test_the_table_of_compare_has_every_method_auto_and_the_peers(
    automatic: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: methods.get(name) for name in ("float_openvino", "onnxruntime_dynamic")}
    monkeypatch.setattr(methods, "found", lambda: few)  # the others take minutes
    recipe = automatic.model_copy(update={"folder": Path(shutil.copytree(automatic.folder, tmp_path / "bert"))})
    table = quality.run(recipe, record=tmp_path / "quality.json", command="make compare")
    assert json.loads((tmp_path / "quality.json").read_text()) == json.loads(
        (recipe.folder / "compare.json").read_text()
    )
    assert {r["label"] for r in table["methods"]} == {label + end for label in WAYS for end in ("", " + migration")}
    assert [r["method"] for r in table["peers"]] == ["onnxruntime_dynamic"], "a float method is no quantizer"
    plain, allowed = table["auto"]
    assert plain in table["methods"] and allowed in table["methods"] and not plain["migration"]
    lines = page.lines(table)
    assert [line[0] for line in lines[:6]] == ["max", "99.9 %", "99.99 %", "99.999 %", "entropy", "mse"]
    assert {len(line) for line in lines} == {7}
    text = page.section(table).markdown()
    assert all(f"| {line[0]} |" in text for line in lines)
