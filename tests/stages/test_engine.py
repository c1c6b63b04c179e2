"""BACKEND=auto on a CPU: int8 and float on every backend, the fastest within the budgets ships, and it says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import qdq_models as models
from helpers.runs import snapshot
from helpers.usable import USABLE
from pipeline import backends, stages
from pipeline.artifacts import Workspace
from pipeline.cli import show
from pipeline.errors import ArtifactError, EngineRefused
from pipeline.judge import verdict
from pipeline.measure import latency
from pipeline.recipe import Recipe
from pipeline.report import schema
from pipeline.run import Run

pytestmark = pytest.mark.skipif(len(USABLE) < 2, reason="needs two backends that work here")
LABELS = [f"{name} {precision}" for name in USABLE for precision in ("int8", "fp32")]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Returns the recipe of a folder with the QDQ graphs of every backend; the stages before are done."""
    workspace = models.export(tmp_path / "small", USABLE[0])
    for name in USABLE[1:]:
        models.lower(workspace, name)
    return models.recipe(workspace.folder, "auto", **{"budgets.speedup": 0.0})


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Returns a function: take(openvino_int8=2, …) lets engines take these ms, others 50; verify's runs are real."""
    real = latency.interleave

    def set_(**ms: float) -> None:
        def interleave(candidates: Any, *, warmup: int, runs: int, **more: Any) -> dict[str, list[float]]:
            if not set(candidates) <= set(LABELS):
                return real(candidates, warmup=warmup, runs=runs, **more)
            for call in candidates.values():
                call()
            return {name: [1e-3 * ms.get(name.replace(" ", "_"), 50.0)] * runs for name in candidates}

        monkeypatch.setattr(latency, "interleave", interleave)

    return set_


def run(recipe: Recipe) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns report.json and the engine.json of the backend that was chosen."""
    for name in ("engine", "verify"):
        stages.run(name, recipe)
    report = json.loads((recipe.folder / "report.json").read_text(encoding="utf-8"))
    record = json.loads((recipe.folder / report["backend"] / "engine.json").read_text(encoding="utf-8"))
    return report, record


@pytest.mark.parametrize("fastest", LABELS)
def test_the_fastest_ships_and_the_report_has_the_table(
    fastest: str, recipe: Recipe, take: Callable[..., None]
) -> None:
    take(**{fastest.replace(" ", "_"): 1.0})
    report, record = run(recipe)
    schema.validate(report)
    assert f"{report['backend']} {report['precision']}" == fastest and report["verdict"] == "pass"
    assert [f"{row['backend']} {row['precision']}" for row in report["candidates"]] == LABELS
    assert [row["chosen"] for row in report["candidates"]] == [label == fastest for label in LABELS]
    assert report["candidates"] == record["candidates"] and not any(row["fault"] for row in report["candidates"])
    judged = [row["accuracy"] is not None for row in report["candidates"]]
    assert judged == [label == fastest and label.endswith("int8") for label in LABELS], "the others need no judging"
    kept = {path.parent.name for path in recipe.folder.glob("*/engine.json")}
    assert kept == {report["backend"]} and not list(recipe.folder.glob(".*candidates*"))
    if fastest.endswith("fp32"):
        assert report["instead"].endswith(f": {fastest} ships, 1.0 ms") and "int8 takes 50.0 ms" in report["instead"]
        assert report["precision_report"]["int8_ops"] == 0
        assert report["processor"]["right_on"] == "every processor"
    else:
        assert report["instead"] is None and report["precision_report"]["int8_ops"] > 0
    page = (recipe.folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<td>ships</td>") == 1 and page.count("<td>slower</td>") == len(LABELS) - 1


def test_the_stages_know_what_was_chosen(recipe: Recipe, take: Callable[..., None]) -> None:
    take(onnxruntime_int8=1.0)
    report, _ = run(recipe)
    assert Workspace(recipe.folder).manifest.stages.keys() >= {"engine/auto", "verify/onnxruntime"}
    assert [stages.run(name, recipe)["skipped"] for name in ("engine", "verify")] == [True, True]
    shown = [row["name"] for row in report["stages"]]
    assert shown == ["quantize", "calibrate", "export", "lower", "lower/openvino", "engine", "verify"]
    assert stages.why_stale("engine", recipe) == stages.why_stale("verify", recipe) == []
    alone = recipe.on_backend("onnxruntime")
    for name in ("engine", "verify"):
        stages.run(name, alone)
    assert any("was made again by engine/onnxruntime" in reason for reason in stages.why_stale("engine", recipe))
    report = json.loads((recipe.folder / "report.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in report["stages"]] == ["quantize", "calibrate", "export", "lower", "engine", "verify"]
    assert len(report["candidates"]) == 1 and report["instead"] is None


def test_a_changed_budget_is_a_choice_to_be_made_again(recipe: Recipe, take: Callable[..., None]) -> None:
    take(onnxruntime_int8=1.0)
    run(recipe)
    tighter = models.recipe(recipe.folder, "auto", **{"budgets.speedup": 0.0, "budgets.relative_drop": 0.001})
    assert [reason.partition(":")[0] for reason in stages.why_stale("engine", tighter)] == ["budgets changed"]
    assert stages.why_stale("engine", tighter.on_backend("onnxruntime")) == ["it never ran"]


def test_another_choice_leaves_nothing_of_the_one_before(recipe: Recipe, take: Callable[..., None]) -> None:
    take(onnxruntime_int8=1.0)
    run(recipe)
    take(openvino_int8=1.0)
    stages.run("engine", recipe, force=True)
    assert not (recipe.folder / "onnxruntime/model.ort.onnx").exists()
    assert (recipe.folder / "openvino/model.xml").is_file() and (recipe.folder / "onnxruntime/model.qdq.onnx").is_file()


def break_(backend: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a backend build int8 engines of another graph than it is given."""
    module = backends.get(backend)
    honest = module.build

    def faulty(graph: Path, area: Path, recipe: Recipe, precision: str = "int8") -> None:
        if precision == "int8":
            graph = models.change_scale(graph, folder / "wrong.onnx", "x_scale", 0.1)
        honest(graph, area, recipe, precision)

    monkeypatch.setattr(module, "build", faulty)


def test_a_wrong_engine_is_refused_and_the_next_one_taken(
    recipe: Recipe, take: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(openvino_int8=1.0, onnxruntime_int8=2.0)
    break_("openvino", tmp_path, monkeypatch)
    report, _ = run(recipe)
    assert (report["backend"], report["precision"], report["verdict"]) == ("onnxruntime", "int8", "pass")
    row = report["candidates"][0]
    assert "logits, one by one: " in row["fault"] and row["p50_ms"] is None, "what is wrong is not even timed"
    assert report["instead"].startswith("openvino int8 was refused (logits, one by one: ")
    assert report["instead"].endswith("): onnxruntime int8 ships, 2.0 ms")
    assert show.rival(row) == "openvino int8 refused"


def test_where_int8_is_wrong_everywhere_float_ships(
    recipe: Recipe, take: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(openvino_fp32=3.0)
    for name in USABLE:
        break_(name, tmp_path, monkeypatch)
    report, _ = run(recipe)
    assert (report["backend"], report["precision"], report["verdict"]) == ("openvino", "fp32", "pass")
    assert report["instead"].count("was refused") == len(USABLE)


def test_an_engine_that_does_not_run_is_a_refusal_and_no_crash(
    recipe: Recipe, take: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    take(openvino_fp32=1.0, onnxruntime_int8=2.0)
    module = backends.get("openvino")

    def load(folder: Path, threads: int | None) -> Any:
        def engine(feeds: Any) -> Any:
            raise RuntimeError("no kernel for this layer")

        return engine

    monkeypatch.setattr(module, "load", load)
    report, _ = run(recipe)
    assert (report["backend"], report["precision"]) == ("onnxruntime", "int8")
    for row in report["candidates"][:2]:
        assert row["fault"] == "openvino cannot run the engine that it built: no kernel for this layer"
    with pytest.raises(EngineRefused, match="cannot run the engine that it built: no kernel for this layer"):
        stages.run("engine", recipe.on_backend("openvino"))


def test_one_that_misses_the_budgets_does_not_ship_however_fast(
    recipe: Recipe, take: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    take(openvino_int8=1.0, onnxruntime_int8=2.0)
    honest, asked = verdict.accuracy_reasons, iter([["the metric drops by 9 %"]])
    monkeypatch.setattr(verdict, "accuracy_reasons", lambda *given: honest(*given) + next(asked, []))
    report, _ = run(recipe)
    assert (report["backend"], report["precision"]) == ("onnxruntime", "int8")
    assert [row["fault"] for row in report["candidates"]] == ["the metric drops by 9 %", None, None, None]


def broken(graph: Path, area: Path, recipe: Recipe, precision: str) -> None:
    raise RuntimeError("cannot fuse")


def test_nothing_is_replaced_where_nothing_may_ship(
    recipe: Recipe, take: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    take(openvino_int8=1.0)
    run(recipe)
    before = snapshot(recipe.folder)
    for name in USABLE:
        monkeypatch.setattr(backends.get(name), "build", broken)
    with pytest.raises(EngineRefused, match=r"no engine may ship:\n  openvino int8: .*cannot fuse\n  openvino fp32: "):
        stages.run("engine", recipe, force=True)
    assert snapshot(recipe.folder) == before


def test_a_backend_without_a_graph_is_not_tried(tmp_path: Path, take: Callable[..., None]) -> None:
    """As on a machine for engines alone, in a folder that was made for one backend."""
    take()
    workspace = models.export(tmp_path / "small", USABLE[1])
    report, _ = run(models.recipe(workspace.folder, "auto", **{"budgets.speedup": 0.0}))
    assert [row["backend"] for row in report["candidates"]] == [USABLE[1]] * 2


def test_before_the_choice_there_is_nothing_to_verify(recipe: Recipe) -> None:
    with pytest.raises(ArtifactError, match=r"no engine that BACKEND=auto chose; run `.*--output .*small`"):
        stages.run("verify", recipe)
    assert stages.why_stale("verify", recipe) == ["it never ran"]


def test_a_gpu_goes_before_every_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert backends.to_try("auto") == USABLE and backends.to_try(USABLE[1]) == [USABLE[1]]
    monkeypatch.setattr(backends.get("tensorrt"), "unavailable_reason", lambda: None)
    assert backends.to_try("auto") == ["tensorrt"]
    recipe = models.recipe(tmp_path, "auto")
    for name in ("lower", "engine", "verify"):
        assert [r.recipe.backend for r in stages.runs_for(name, Run(recipe, Workspace(tmp_path)))] == ["tensorrt"]


def test_engines_that_are_far_behind_are_timed_in_few_rounds(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[set[str], int, int]] = []

    def interleave(candidates: Any, *, warmup: int, runs: int, **more: Any) -> dict[str, list[float]]:
        asked.append((set(candidates), warmup, runs))
        ms = {"openvino int8": 1.0, "onnxruntime int8": 1.1}
        return {name: [1e-3 * ms.get(name, 2.0)] * runs for name in candidates}

    engine = stages.load("engine")
    monkeypatch.setattr(latency, "interleave", interleave)
    stages.run("engine", recipe)
    few = min(engine.FIRST_ROUNDS, recipe.verification.runs)
    assert asked == [
        (set(LABELS), recipe.verification.warmup, few),
        ({"openvino int8", "onnxruntime int8"}, 0, engine.FIRST_ROUNDS + 1),
    ]
