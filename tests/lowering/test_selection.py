"""CALIBRATION=auto: every way to read amax is judged on samples of its own, the best wins and is what gets built."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from calibration import CalibrationTable, QuantizerRecord
from helpers import qdq_models as models
from pipeline import stages, tasks
from pipeline.artifacts import Workspace
from pipeline.bench import methods, quality
from pipeline.bench.tables import quality as page
from pipeline.errors import ArtifactError
from pipeline.judge import verdict
from pipeline.judge.evaluation import Reference
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


def test_a_drop_and_an_agreement_are_weighed_by_their_budgets() -> None:
    """Shares of 0.01 and 0.05: 0.4 + 0.4, 0.7 + 0.2 and 0.0 + 0.7 of them."""
    rows = [row("a", 0.004, 0.98, 30), row("b", 0.007, 0.99, 30), row("c", 0.0, 0.965, 30), row("d", 0.004, 0.98, 31)]
    assert [r["label"] for r in selection.rank(rows, BUDGETS)] == ["c", "d", "a", "b"]
    nearly = [row("first", 0.004, 0.98, 30), row("second", 0.004 + 3e-12, 0.98, 31)]
    assert [r["label"] for r in selection.rank(nearly, BUDGETS)] == ["second", "first"], "digits that mean nothing"


@pytest.mark.parametrize(("drop", "first"), [(0.0085, "changed"), (0.0015, "dropped")])
def test_an_agreement_that_may_be_any_is_weighed_by_all_of_it(drop: float, first: str) -> None:
    """Half of the answers are another: a half of what is allowed."""
    any_share = Budgets(relative_drop=0.01, agreement=0.0)  # type: ignore[call-arg]
    rows = [row("changed", 0.0, 0.5, 30), row("dropped", drop, 1.0, 30)]
    assert selection.rank(rows, any_share)[0]["label"] == first
    assert selection.rank([row("changed", 0.004, 0.5, 30), row("dropped", 0.0085, 1.0, 30)], any_share)[0]["label"] == (
        "dropped"
    )


def table(**records: dict[str, list[float]]) -> CalibrationTable:
    """Returns a table of quantizers with their amax by method."""
    made = {
        name: QuantizerRecord(name=name, kind="input", amax=amax, axis=0 if name == "weight" else None)
        for name, amax in records.items()
    }
    return CalibrationTable(data_digest="-", samples=1, batches=1, records=made)


def test_the_choices_are_what_activations_have_amax_for() -> None:
    methods = {"percentile_99.9": [1.0], "max": [2.0], "mse": [1.5]}
    found = selection.choices(table(a=methods, b=methods, weight={"other": [1.0, 2.0]}), migration=False)
    assert found == [Choice("max", 100.0, False), Choice("mse", 100.0, False), Choice("percentile", 99.9, False)]
    both = selection.choices(table(a={"max": [2.0]}), migration=True)
    assert both == [Choice("max", 100.0, False), Choice("max", 100.0, True)]


def test_a_recipe_is_asked_for_by_score_or_says_the_method() -> None:
    recipe = Recipe.load("bert", overrides={"calibration": {"method": "mse", "percentile": 99.9, "migration": False}})
    asked = selection.automatic(recipe)
    assert not selection.is_asked(recipe) and selection.is_asked(asked)
    assert asked.calibration.percentile == 99.9 and asked.budgets == recipe.budgets
    assert selection.choice_of(SimpleNamespace(recipe=recipe)) == Choice("mse", 99.9, False)  # type: ignore[arg-type]


@pytest.fixture
def scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns a Scorer whose graphs are texts and whose engines are what was built, with what it did in `did`."""
    did: list[Any] = []

    def write(lowered: Any, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.qdq.onnx").write_text(lowered)
        return folder / "model.qdq.onnx"

    def scores(task: Any, reference: Any, model: Any, label: str) -> dict[str, Any]:
        did.append(("score", task, reference, model, label))
        return {"metric": "f1", "relative_drop": 0.0123, "agreement": 0.98765, "sqnr_db": 23.45}

    backend = SimpleNamespace(
        build=lambda graph, folder, recipe: did.append(("build", graph.read_text(), folder, recipe)),
        load=lambda folder, threads: (folder, threads),
    )
    lowered = {"max": "one", "mse": "one", "entropy": "two"}
    candidates = SimpleNamespace(
        lower=lambda choice: lowered[choice.method], backend=backend, table=table(a={n: [1.0] for n in lowered})
    )
    monkeypatch.setattr(selection, "Candidates", lambda run: candidates)
    monkeypatch.setattr(selection, "write", write)
    monkeypatch.setattr(selection, "scores", scores)
    recipe = Recipe.load("bert", overrides={"verification": {"threads": 3}})
    made = selection.Scorer(SimpleNamespace(recipe=recipe, task="task"), "reference", tmp_path / "area")  # type: ignore[arg-type]
    return SimpleNamespace(made=made, did=did, recipe=recipe, area=tmp_path / "area")


def test_equal_graphs_are_built_and_judged_once(scorer: Any) -> None:
    rows = [scorer.made.score(Choice(method, 100.0, False)) for method in ("max", "mse", "entropy")]
    engine = scorer.area / "engine"
    assert scorer.did == [
        ("build", "one", engine, scorer.recipe), ("score", "task", "reference", (engine, 3), "scoring"),
        ("build", "two", engine, scorer.recipe), ("score", "task", "reference", (engine, 3), "scoring"),
    ]  # fmt: skip
    assert rows[1] == {
        "label": "mse", "method": "mse", "percentile": 100.0, "migration": False, "metric": "f1",
        "relative_drop": 0.0123, "agreement": 0.98765, "sqnr_db": 23.45,
    }  # fmt: skip


def test_an_engine_of_a_choice_is_built_where_it_is_asked_for(scorer: Any, tmp_path: Path) -> None:
    assert scorer.made.engine(Choice("max", 100.0, False), tmp_path / "x") == (tmp_path / "x" / "engine", 3)
    assert scorer.did == [("build", "one", tmp_path / "x" / "engine", scorer.recipe)]


def test_every_choice_is_scored_and_told(scorer: Any, caplog: pytest.LogCaptureFixture) -> None:
    recipe = Recipe.load("bert", overrides={"calibration": {"migration": False}})
    with caplog.at_level("INFO", logger="pipeline.lowering.selection"):
        rows = list(selection.score_all(scorer.made, recipe))
    assert [r["label"] for r in rows] == ["entropy", "max", "mse"]
    assert caplog.messages[1] == "max                          f1 drops 1.23%, agreement 0.9877, SQNR 23.4 dB"


def test_a_graph_is_checked_and_written_to_a_new_folder(tmp_path: Path) -> None:
    graph = ir.load(models.linear(tmp_path / "q.onnx"))
    path = selection.write(SimpleNamespace(graph=graph), tmp_path / "a" / "b")  # type: ignore[arg-type]
    assert path == tmp_path / "a" / "b" / "model.qdq.onnx" and ir.load(path).graph.outputs[0].name == "logits"
    assert selection.write(SimpleNamespace(graph=graph), tmp_path / "a" / "b") == path  # type: ignore[arg-type]


def test_the_scores_of_a_model_are_those_that_are_shown() -> None:
    logits = np.eye(2, dtype=np.float32)
    labels = {"label": np.array([0, 1]), "class_names": np.array(["a", "b"])}
    reference = Reference({"x": np.arange(2)[:, None]}, {"logits": logits}, labels)
    seen: list[int] = []

    def model(feeds: dict[str, Any]) -> dict[str, Any]:
        seen.append(len(feeds["x"]))
        return {"logits": logits[[0]]}

    found = selection.scores(tasks.get("text-classification"), reference, model, "scoring")
    assert seen == [1, 1] and [*found] == [*selection.SHOWN]
    assert (found["float"], found["engine"], found["agreement"], found["samples"]) == (1.0, 0.5, 0.5, 2)


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
