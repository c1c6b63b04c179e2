"""TensorRT through the stages: handed over where it cannot run, and on a stand-in the fastest sound precision ships."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers import fake_tensorrt
from helpers.command_line import Cli
from helpers.runs import options_of, snapshot
from pipeline import backends, stages
from pipeline.backends import tensorrt
from pipeline.cli import show
from pipeline.errors import BackendUnavailable, EngineRefused
from pipeline.recipe import Recipe
from pipeline.stages import build, verify

Exported = Callable[[str], Recipe]
MISSING = "no GPU is found here"
RUN = {"verification.warmup": 1, "verification.runs": 7, "verification.samples": 8}
RUN |= {"budgets.relative_drop": 1.0, "budgets.agreement": 0.0}  # random weights answer anything


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "unavailable_reason", lambda: MISSING)


def copied(source: Recipe, folder: Path, **settings: Any) -> Recipe:
    """Returns the recipe of a copy of an exported folder, for TensorRT."""
    shutil.copytree(source.folder, folder)
    asked = {"folder": folder, "backend": "tensorrt", "budgets.speedup": 0.0, **settings}
    return Recipe.load(source.family, overrides=asked, defaults=source.model_dump())


# --- without a GPU ---


@pytest.mark.parametrize("target", ["8.6", "10"])
@pytest.mark.parametrize("model", ["bert", "segformer"])
def test_without_a_gpu_the_graph_is_written_linted_and_handed_over(
    model: str, target: str, exported: Exported, without_gpu: None, cli: Cli, tmp_path: Path
) -> None:
    recipe = copied(exported(model), tmp_path / model, **{"tensorrt.target": target})
    options = [*options_of(recipe), "--backend", "tensorrt", "--set", f"tensorrt.target={target}"]
    answer = cli("engine", model, *options)
    assert answer.code == 3 and answer.out == ""
    graph = recipe.folder / "tensorrt" / "model.qdq.onnx"
    assert graph.is_file() and not (graph.parent / "model.plan").exists()
    assert f"error: backend 'tensorrt' cannot run here: {MISSING}" in answer.err
    command = next(line for line in answer.err.splitlines() if line.strip().startswith("trtexec"))
    assert f"--onnx={graph}" in command and f"--saveEngine={graph.with_name('model.plan')}" in command
    assert ("--int8 --fp16" in command) == (target == "8.6") and ("--stronglyTyped" in command) == (target == "10")
    assert "no errors" in answer.err, "the rules were looked at"
    before = snapshot(recipe.folder)
    again = cli("engine", model, *options)
    assert again.code == 3 and "lower: up to date" in again.err and snapshot(recipe.folder) == before


def test_a_machine_for_engines_alone_says_what_its_backend_lacks(
    exported: Exported, without_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = copied(exported("bert"), tmp_path / "bert")
    build.run_stage("lower", recipe)
    monkeypatch.setattr(backends, "missing_package", lambda package, install: f"{package} is not installed")
    with pytest.raises(BackendUnavailable, match=rf"^backend 'tensorrt' cannot run here: {MISSING}\.$"):
        build.build(recipe, first="engine")


def test_status_tells_what_is_done_and_what_cannot_be(
    exported: Exported, without_gpu: None, cli: Cli, tmp_path: Path
) -> None:
    recipe = copied(exported("bert"), tmp_path / "bert")
    answer = cli("status", "bert", *options_of(recipe), "--backend", "tensorrt", "--json")
    rows = {row["stage"]: row for row in json.loads(answer.out)}
    assert answer.code == 0 and rows["export"]["up_to_date"] and rows["lower"]["reasons"] == ["it never ran"]
    for stage in ("engine", "verify"):
        assert rows[stage]["reasons"] == [f"backend 'tensorrt' cannot run here: {MISSING}"]


def test_a_graph_that_breaks_the_rules_is_not_handed_over(
    exported: Exported, without_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = copied(exported("bert"), tmp_path / "bert", **{"tensorrt.target": "8.6"})
    monkeypatch.setitem(tensorrt.DIALECTS, "8.6", ("merge_equal_pairs",))  # type: ignore[attr-defined]
    said: list[str] = []
    with pytest.raises(EngineRefused, match=r"model\.qdq\.onnx breaks \d+ rules? of tensorrt"):
        build.build(recipe, announce=said.append)
    assert any("Q13" in line for line in said)


def test_choosing_a_method_needs_engines_and_is_told_before_any_work(
    exported: Exported, without_gpu: None, tmp_path: Path
) -> None:
    recipe = copied(exported("bert"), tmp_path / "bert", **{"calibration.method": "auto"})
    before = snapshot(recipe.folder)
    with pytest.raises(BackendUnavailable, match=MISSING):
        build.build(recipe)
    assert snapshot(recipe.folder) == before


# --- on the stand-in ---


def built(recipe: Recipe) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns engine.json and report.json after the stages that follow the export."""
    for stage in ("lower", "engine", "verify"):
        stages.run(stage, recipe)
    paths = (recipe.folder / "tensorrt" / "engine.json", recipe.folder / "report.json")
    record, report = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
    return record, report


def timed(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    """Lets the engines of the precisions take these seconds; others are really timed."""
    from pipeline.measure import latency

    real = latency.interleave

    def interleave(candidates: Any, *, warmup: int, runs: int, **more: Any) -> dict[str, list[float]]:
        if not all(name.startswith("tensorrt ") for name in candidates):
            return real(candidates, warmup=warmup, runs=runs, **more)
        for call in candidates.values():
            call()
        return {name: [seconds[name.split()[1]]] * runs for name in candidates}

    monkeypatch.setattr(latency, "interleave", interleave)


@pytest.mark.parametrize("version", fake_tensorrt.VERSIONS)
def test_the_fastest_sound_precision_ships(
    version: str, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, version)
    timed(monkeypatch, int8=0.002, fp16=0.001, fp32=0.003)
    record, report = built(copied(exported("bert"), tmp_path / "bert", **RUN))
    assert [(row["precision"], row["chosen"]) for row in record["candidates"]] == [
        ("int8", False),
        ("fp16", True),
        ("fp32", False),
    ]
    assert report["precision"] == "fp16" and report["backend"] == "tensorrt"
    assert json.loads((tmp_path / "bert/tensorrt/plan.json").read_text(encoding="utf-8"))["precision"] == "fp16"
    assert report["accuracy"]["agreement"] == 1.0
    assert report["candidates"] == record["candidates"]
    page = (tmp_path / "bert/report.html").read_text(encoding="utf-8")
    assert page.count('<th scope="row">tensorrt fp16</th><td class="n">1.000</td>') == 1
    assert page.count("<td>ships</td>") == 1
    shown = [show.rival(row) for row in report["candidates"]]
    assert shown == ["tensorrt int8 2.000 ms", "tensorrt fp16 1.000 ms (ships)", "tensorrt fp32 3.000 ms"]


def test_int8_that_misses_the_budget_does_not_ship_however_fast(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.judge import verdict

    fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    timed(monkeypatch, int8=0.001, fp16=0.002, fp32=0.003)
    honest, asked = verdict.accuracy_reasons, iter([["the metric drops by 9 %"], [], []])
    monkeypatch.setattr(verdict, "accuracy_reasons", lambda *given: honest(*given) + next(asked, []))
    record, report = built(copied(exported("bert"), tmp_path / "bert", **RUN))
    assert [row["fault"] for row in record["candidates"]] == ["the metric drops by 9 %", None, None]
    assert report["precision"] == "fp16"


@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
def test_a_precision_that_is_asked_for_is_the_only_one_built(
    precision: str, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    recipe = copied(exported("bert"), tmp_path / "bert", **RUN, **{"tensorrt.precision": precision})
    record, report = built(recipe)
    assert [row["precision"] for row in record["candidates"]] == [precision] and report["precision"] == precision
    graphs = {path.name for path in (recipe.folder / "tensorrt").glob("*.onnx")}
    assert graphs == {"model.qdq.onnx", *([] if precision == "int8" else [f"model.{precision}.onnx"])}


def test_a_batch_that_is_wrong_is_refused_and_nothing_is_replaced(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NVIDIA/TensorRT#4853: engines that are right alone and wrong from the second sample on."""
    trt = fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    recipe = copied(exported("segformer"), tmp_path / "segformer", **RUN, **{"tensorrt.precision": "int8"})
    built(recipe)
    before = snapshot(recipe.folder)
    trt.state.wrong_at_batch = True
    with pytest.raises(EngineRefused, match="as one batch"):
        stages.run("engine", recipe, force=True)
    assert snapshot(recipe.folder) == before


@pytest.mark.parametrize("batches", [(1,), (1, 2), (1, 8)])
def test_the_check_as_one_batch_keeps_to_the_batches_asked_for(
    batches: Sequence[int], exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    settings = {"tensorrt.precision": "int8", "shapes.batches": tuple(batches)}
    _, report = built(copied(exported("bert"), tmp_path / "bert", **RUN, **settings))
    assert [row["batch"] for row in report["batches"]] == verify.with_one_between(batches)
    assert not any(row["fault"] for row in report["batches"])


@pytest.mark.parametrize(
    ("setting", "value"),
    [("tensorrt.optimization_level", 4), ("tensorrt.workspace_mib", 100), ("shapes.batches", (1, 2))],
)
def test_a_setting_of_the_plan_makes_it_again(
    setting: str, value: Any, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    recipe = copied(exported("bert"), tmp_path / "bert", **RUN, **{"tensorrt.precision": "int8"})
    for stage in ("lower", "engine"):
        stages.run(stage, recipe)
    assert stages.why_stale("engine", recipe) == []
    changed = Recipe.load("bert", overrides={setting: value}, defaults=recipe.model_dump())
    assert stages.why_stale("engine", changed) and stages.why_stale("lower", changed) == []
