"""engine and verify as stages: the artifacts they leave, the verdicts they give, what they refuse."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from helpers import qdq_models as models
from helpers.faulty import Faulty, each
from helpers.usable import USABLE
from pipeline import backends, stages, tasks
from pipeline.artifacts import Workspace
from pipeline.cli import show
from pipeline.errors import ArtifactError, EngineRefused, InputError
from pipeline.files import sha256
from pipeline.judge.reference import CPU, CUDA, exact_session, float_session
from pipeline.judge.verdict import budgets, reasons, relative_drop
from pipeline.report import schema, sections
from pipeline.stages import verify


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replaces the page, which has tests of its own, by its arguments."""
    from pipeline.report import page

    drawn: list[dict[str, Any]] = []

    def render(report: dict[str, Any], workspace: Workspace, area: Path, **more: Any) -> None:
        drawn.append({"report": report, **more})
        (area / "report.html").write_text("page")

    monkeypatch.setattr(page, "render", render)
    return drawn


def through(folder: Path, backend: str, maker: Any = models.linear, **overrides: Any) -> dict[str, Any]:
    """Runs engine and verify on a small graph; returns the report."""
    rewritten = overrides.pop("rewritten", False)
    models.export(folder, backend, maker, rewritten=rewritten)
    recipe = models.recipe(folder, backend, **{"budgets.speedup": 0.0, **overrides})
    for name in ("engine", "verify"):
        stages.run(name, recipe)
    return json.loads(Workspace(folder).path("report.json").read_text())


@pytest.mark.parametrize("backend", USABLE)
def test_report_keeps_its_promise(backend: str, tmp_path: Path, no_page: list[dict[str, Any]]) -> None:
    report = through(tmp_path / "small", backend)
    schema.validate(report)
    assert (report["model"], report["backend"], report["task"]) == ("small", backend, "text-classification")
    assert (report["verdict"], report["reasons"], report["precision"]) == ("pass", [], "int8")
    assert report["accuracy"]["samples"] == 25
    assert report["accuracy"]["float"] == pytest.approx(21 / 25)  # every seventh label is made wrong: 4 of 25
    assert report["accuracy"]["agreement"] >= 0.95
    assert [row["batch"] for row in report["batches"]] == [1, 2, 3]
    assert all(row["cosine"] > 0.99 and row["fault"] is None for row in report["batches"])
    assert [s["name"] for s in report["stages"]] == [
        "quantize", "calibrate", "export", "lower", "engine", "verify",
    ]  # fmt: skip
    assert [s["skipped"] for s in report["stages"]] == [True] * 5 + [False]  # each in a run of its own
    assert report["calibration"] == {
        "method": "percentile", "percentile": 99.999, "migration": True, "asked": "percentile", "migrations": 0,
        "batches": 2, "samples": 16, "seconds": 2.0, "placement": {"default_of": "backend", "measured_on": None},
    }  # fmt: skip
    assert report["latency"]["shape"] == [1, models.WIDTH]
    assert len(report["latency"]["samples"]["engine"]) == report["latency"]["runs"] == 6
    assert "float_ort_rewritten" not in report["latency"]
    assert no_page[0]["report"] == report and len(no_page[0]["examples"]) > 0


@pytest.mark.parametrize("backend", USABLE)
def test_figures_are_those_of_the_files(backend: str, tmp_path: Path) -> None:
    """Agreement, SQNR and sizes again, from the artifacts, with other code."""
    report = through(tmp_path / "small", backend)
    folder = tmp_path / "small"
    with np.load(folder / "reference.npz") as reference:
        given, expected = reference["input/x"], reference["output/logits"]
    found = backends.get(backend).load(folder / backend, 1)({"x": given})["logits"]
    equal = (found.argmax(1) == expected.argmax(1)).mean()
    noise = np.square(found.astype(float) - expected).sum()
    assert report["accuracy"]["agreement"] == pytest.approx(float(equal))
    sqnr = 10 * np.log10(np.square(expected.astype(float)).sum() / noise)
    assert report["accuracy"]["sqnr_db"] == pytest.approx(float(sqnr), abs=0.1)
    engine_bytes = sum((folder / backend / f).stat().st_size for f in backends.get(backend).FILES)
    assert report["size"] == {
        "float_onnx": (folder / "model.onnx").stat().st_size,
        "qdq_onnx": (folder / backend / "model.qdq.onnx").stat().st_size,
        "engine": engine_bytes,
    }


def test_the_checkpoint_as_it_is_comes_first(tmp_path: Path) -> None:
    report = through(tmp_path / "small", USABLE[0], rewritten=True)
    assert {"float_ort", "float_ort_rewritten", "engine"} <= report["latency"].keys()


def test_a_missed_budget_is_written_and_explained(tmp_path: Path) -> None:
    report = through(tmp_path / "small", USABLE[0], **{"budgets.speedup": 1000.0, "budgets.agreement": 1.0})
    assert report["verdict"] == "fail"
    assert "the budget is 1000" in report["reasons"][-1]
    assert (tmp_path / "small" / USABLE[0] / "report.json").is_file()


def test_without_onnxruntime_accuracy_is_judged_and_the_speed_up_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A machine with no runtime but the engine's own: nothing there is a speed-up, and no budget passes unseen."""
    folder, backend = tmp_path / "small", USABLE[0]
    models.export(folder, backend, rewritten=True)
    missing = "the package onnxruntime is not installed: pip install onnxruntime"
    monkeypatch.setattr(verify, "reference_missing", lambda: missing)
    monkeypatch.setattr(verify, "float_session", lambda *given: pytest.fail("there is no ONNX Runtime"))
    reports = []
    for least in (0.0, 1.0):
        recipe = models.recipe(folder, backend, **{"budgets.speedup": least})
        for name in ("engine", "verify"):
            stages.run(name, recipe)
        reports.append(json.loads(Workspace(folder).path("report.json").read_text()))
    for report in reports:
        schema.validate(report)
        latency = report["latency"]
        assert (latency["float_ort"], latency["speedup"], latency["not_compared"]) == (None, None, missing)
        assert latency["engine"]["p50"] > 0 and [*latency["samples"]] == ["engine"]
        assert report["accuracy"]["agreement"] >= 0.95 and [row["fault"] for row in report["batches"]] == [None] * 3
    assert [report["verdict"] for report in reports] == ["pass", "fail"]
    assert reports[1]["reasons"] == [
        f"the speed-up over float ONNX Runtime was not measured: {missing}; the budget is 1, and "
        "--set budgets.speedup=0 asks for none"
    ]
    show.result(reports[0], recipe, as_json=False)
    assert f"not measured: {missing}" in capsys.readouterr().out


@pytest.mark.parametrize("on_gpu", [True, False])
@pytest.mark.parametrize("available", [[CUDA, CPU], [CPU]])
def test_float_onnxruntime_runs_on_the_gpu_for_a_gpus_engine_where_it_can(
    available: list[str], on_gpu: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    session = onnxruntime.InferenceSession

    def started(path: str, options: Any, providers: list[str]) -> Any:
        asked.append(providers)
        return session(path, options, providers=[CPU])

    monkeypatch.setattr(onnxruntime, "InferenceSession", started)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    made = float_session(models.linear(tmp_path / "m.onnx", qdq=False), 1, on_gpu=on_gpu)
    assert asked == [[CUDA, CPU] if on_gpu and CUDA in available else [CPU]]
    assert made.provider == CPU, "what runs, not what was asked for"


def test_an_engine_on_a_gpu_says_where_the_float_model_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backends.get(USABLE[0]), "ON_GPU", True)
    logging.getLogger("pipeline").setLevel(logging.INFO)
    report = through(tmp_path / "small", USABLE[0])
    assert report["latency"]["float_provider"] == CPU and "has no CUDA here" in caplog.text
    assert sections.float_name(report) == "float ONNX Runtime on the CPU"
    report["latency"]["float_provider"] = CUDA
    assert sections.float_name(report) == "float ONNX Runtime on CUDA"
    monkeypatch.setattr(backends.get(USABLE[0]), "ON_GPU", False)
    assert sections.float_name(report) == sections.float_name({}) == "float ONNX Runtime"


def test_a_second_run_does_nothing(tmp_path: Path) -> None:
    through(tmp_path / "small", USABLE[0])
    recipe = models.recipe(tmp_path / "small", USABLE[0], **{"budgets.speedup": 0.0})
    assert [stages.run(name, recipe)["skipped"] for name in ("engine", "verify")] == [True, True]
    tighter = models.recipe(tmp_path / "small", USABLE[0], **{"budgets.speedup": 0.5})
    assert [stages.run(name, tighter)["skipped"] for name in ("engine", "verify")] == [True, False]


@pytest.mark.parametrize("backend", USABLE)
def test_a_wrong_engine_is_refused_and_the_old_one_kept(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime is made to build something else than the graph it was given."""
    folder = tmp_path / "small"
    through(folder, backend)
    before = {p.name: sha256(p) for p in folder.rglob("*") if p.is_file()}
    module = backends.get(backend)
    honest = module.build

    def faulty(graph: Path, area: Path, recipe: Any, precision: str) -> None:
        honest(models.change_scale(graph, tmp_path / "wrong.onnx", "x_scale", 0.1), area, recipe, precision)

    monkeypatch.setattr(module, "build", faulty)
    with pytest.raises(EngineRefused, match=r"refused[^:]*:\n  logits, one by one: ") as caught:
        stages.run("engine", models.recipe(folder, backend), force=True)
    assert caught.value.exit_code == 1
    assert {p.name: sha256(p) for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("free", "expected", "message"),
    [(2**40, EngineRefused, "builds no engine from .*cannot fuse"), (0, InputError, "the disk is full")],
)
def test_a_runtimes_own_error_is_explained(
    free: int, expected: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, backend = tmp_path / "small", USABLE[0]
    models.export(folder, backend)

    def faulty(graph: Path, area: Path, recipe: Any, precision: str) -> None:
        raise RuntimeError("cannot fuse or write")

    monkeypatch.setattr(backends.get(backend), "build", faulty)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(total=2**41, used=0, free=free))
    with pytest.raises(expected, match=message):
        stages.run("engine", models.recipe(folder, backend))


@pytest.mark.parametrize("backend", USABLE)
def test_signed_concat_ships_where_the_runtime_computes_it(backend: str, tmp_path: Path) -> None:
    """SegFormer's own head in signed int8: OpenVINO is silently wrong on some processors: there is no engine there."""
    folder = tmp_path / "small"
    workspace = Workspace(folder)
    models.export(folder, "openvino", models.concat_head)  # the signed dialect, whoever builds it
    models.lower(workspace, backend, models.concat_head, signed=True)
    recipe = models.recipe(folder, backend)
    graph, feeds = folder / backend / "model.qdq.onnx", models.feeds(folder / backend / "model.qdq.onnx", 2, seed=5)
    exact = exact_session(graph, 1)(feeds)["logits"]
    noise = np.square(float_session(folder / "model.onnx", 1)(feeds)["logits"] - exact).sum()

    def is_right(area: Path) -> bool:
        return bool(np.square(backends.get(backend).load(area, 1)(feeds)["logits"] - exact).sum() <= 4 * noise)

    (tmp_path / "unchecked").mkdir()
    backends.get(backend).build(graph, tmp_path / "unchecked", recipe, "int8")
    if is_right(tmp_path / "unchecked"):
        stages.run("engine", recipe)
        assert is_right(folder / backend)
    else:
        with pytest.raises(EngineRefused, match="does not compute its QDQ graph"):
            stages.run("engine", recipe)
        assert not any((folder / backend / file).exists() for file in backends.get(backend).FILES)


def test_verify_refuses_an_engine_of_another_graph(tmp_path: Path) -> None:
    folder, backend = tmp_path / "small", USABLE[0]
    through(folder, backend)
    with Workspace(folder).staging(f"lower/{backend}", {}, {"seconds": 1.0, "peak_rss_bytes": 1}) as area:
        models.write_exact(Workspace(folder), models.linear(area / backend / "model.qdq.onnx", seed=3))
    with pytest.raises(ArtifactError, match="built from another"):
        stages.run("verify", models.recipe(folder, backend))


@pytest.mark.parametrize("file", ["reference.npz", "model.onnx", "calibration.json", "ENGINE"])
def test_verify_refuses_altered_files(file: str, tmp_path: Path) -> None:
    folder, backend = tmp_path / "small", USABLE[0]
    through(folder, backend)
    file = f"{backend}/{backends.get(backend).FILES[-1]}" if file == "ENGINE" else file
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"was altered.*bert --backend {backend} .*--output {folder}`"):
        stages.run("verify", models.recipe(folder, backend), force=True)


def test_a_batch_that_mixes_its_samples_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that only appears beyond batch 1, and that accuracy (taken one by one) cannot see."""

    class Mixing:
        def __init__(self, engine: Any) -> None:
            self._engine = engine

        def __getattr__(self, name: str) -> Any:
            return getattr(self._engine, name)

        def __call__(self, feeds: Any) -> Any:
            return {n: x[::-1] for n, x in self._engine(feeds).items()}

    honest = backends.load_checked
    monkeypatch.setattr(backends, "load_checked", lambda *given: Mixing(honest(*given)))
    report = through(tmp_path / "small", USABLE[0])
    assert report["verdict"] == "fail"
    assert [row["fault"] is None for row in report["batches"]] == [True, False, False]
    assert any(reason.startswith("batch 2: logits differs") for reason in report["reasons"])


def test_a_report_without_a_promised_key_is_refused(tmp_path: Path) -> None:
    report = through(tmp_path / "small", USABLE[0])
    del report["latency"]["speedup"]
    report["verdict"] = "maybe"
    with pytest.raises(ArtifactError, match=r"(?s)verdict.*latency\.speedup: Field required"):
        schema.validate(report)


@pytest.mark.parametrize(
    ("before", "after", "expected"), [(0.8, 0.72, 0.1), (0.8, 0.84, -0.05), (0.0, 0.0, 0.0), (0.0, -0.1, 1.0)]
)
def test_relative_drop(before: float, after: float, expected: float) -> None:
    assert relative_drop(before, after) == pytest.approx(expected)


JUDGED = {"chance": {"score": 0.1, "low": 0.5, "high": 1.0}, "unjudgeable": None, "unseen": [], "classes": 0}


def test_numbers_that_are_not_numbers_fail() -> None:
    """NaN compares false with everything; a verdict must not take that for a pass."""
    nan = float("nan")
    report = {
        "accuracy": {
            "metric": "f1", "float": 1.0, "engine": nan, "relative_drop": nan, "agreement": nan, "sqnr_db": nan,
            **JUDGED,
        },
        "latency": {"speedup": {"median": nan, "low": nan, "high": nan}},
        "parity": {"faults": []},
        "batches": [],
    }  # fmt: skip
    asked = budgets(models.recipe(Path("x"), "openvino").budgets, tasks.get("text-classification"))
    assert len(reasons(report, asked)) == 4


FAULTS = {
    "three times too large": (each(lambda x: 3 * x), "systematic gain of"),
    "2 % too large": (each(lambda x: np.float32(1.02) * x), "systematic gain of"),
    "noise": (each(lambda x: x + 0.2 * np.random.default_rng(1).standard_normal(x.shape)), "rounding explains"),
    "not finite": (each(lambda x: np.where(x > 0, np.nan, x)), "the engine gives logits with values that are not"),
    "a missing output": (lambda found: {}, "the engine does not give logits"),
    "another shape": (each(lambda x: x[:, :1]), r"the engine gives logits in the shape \(1, 1\), not \(1, 4\)"),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_faulty_engine_gets_a_failing_report_in_place_of_the_earlier_pass(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, backend = tmp_path / "small", USABLE[0]
    assert through(folder, backend)["verdict"] == "pass"
    change, expected = FAULTS[fault]
    load = backends.load_checked
    monkeypatch.setattr(backends, "load_checked", lambda *given: Faulty(load(*given), change))
    stages.run("verify", models.recipe(folder, backend, **{"budgets.speedup": 0.0}), force=True)
    report = json.loads(Workspace(folder).path("report.json").read_text())
    schema.validate(report)
    assert report["verdict"] == "fail"
    assert re.search(expected, "\n".join(report["reasons"])), report["reasons"]


def test_sqnr_has_a_budget(tmp_path: Path) -> None:
    report = through(tmp_path / "small", USABLE[0], **{"budgets.sqnr_db": 100})
    (reason,) = report["reasons"]
    assert (
        reason == f"the SQNR of the outputs is {report['accuracy']['sqnr_db']:.1f} dB to the float model's; "
        "the budget is 100 dB"
    )


@pytest.mark.parametrize(
    ("listed", "tried"),
    [([1], [1]), ([1, 2], [1, 2]), ([1, 2, 4], [1, 2, 3, 4]), ([8, 1], [1, 4, 8]), ([1, 2, 8, 9], [1, 2, 5, 8, 9])],
)
def test_a_batch_size_between_those_listed_is_tried(listed: list[int], tried: list[int]) -> None:
    assert verify.with_one_between(listed) == tried


def test_small_graphs_are_valid(tmp_path: Path) -> None:
    for name, maker in models.MAKERS.items():
        for qdq in (True, False):
            onnx.checker.check_model(str(maker(tmp_path / f"{name}.onnx", qdq=qdq)), full_check=True)
