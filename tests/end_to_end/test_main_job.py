"""The main job on the embedded checkpoints, as a user starts it: checkpoint in, verified int8 engine out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from helpers.once import once
from pipeline import backends, load_engine
from pipeline.artifacts import Workspace, sealed
from pipeline.files import sha256
from pipeline.judge.evaluation import Reference, one_by_one
from pipeline.judge.reference import exact_session
from pipeline.measure import machine, processor
from pipeline.recipe import Recipe
from pipeline.report import schema

pytestmark = pytest.mark.slow
# fewer held-out samples and smaller images than by default: a fifth of the time
MODELS = {"bert": ("verification.samples=256",), "segformer": ("verification.samples=32", "shapes.image_size=256")}
ANY_SPEED = "budgets.speedup=0"  # other tests run beside this one: speed is for benchmarks
SATURATES = processor.saturates(machine.processor_class())  # there attention is float, and int8 need not be faster


def settings(model: str) -> list[str]:
    return [x for setting in (ANY_SPEED, *MODELS[model]) for x in ("--set", setting)]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module", params=MODELS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """One finished folder per model, with its baseline. Nobody writes into it: a test that does takes a copy."""
    model = request.param

    def fill(folder: Path) -> None:
        done = run("engine", model, "--output", str(folder), "--store-baseline", *settings(model))
        assert done.returncode == 0, done.stderr + done.stdout

    return model, once(tmp_path_factory, f"main-job-{model}", fill)


@pytest.fixture(scope="module")
def int8(built: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The same with OpenVINO's int8 engine, whichever engine is the fastest here."""
    model, source = built

    def fill(folder: Path) -> None:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        done = run("engine", model, "--output", str(folder), "--backend", "openvino", *settings(model))
        assert done.returncode == 0, done.stderr + done.stdout

    return model, once(tmp_path_factory, f"main-job-{model}-int8", fill)


@pytest.fixture
def copy(built: tuple[str, Path], tmp_path: Path) -> tuple[str, Path]:
    return built[0], Path(shutil.copytree(built[1], tmp_path / built[0]))


def report_of(folder: Path) -> dict[str, Any]:
    return json.loads(Workspace(folder).path("report.json").read_text())


def test_the_main_job_passes_on_every_processor(built: tuple[str, Path]) -> None:
    report = report_of(built[1])
    schema.validate(report)
    assert (report["verdict"], report["reasons"]) == ("pass", [])
    assert report["accuracy"]["relative_drop"] <= 0.01 and report["accuracy"]["agreement"] >= 0.99
    assert report["accuracy"]["drop_interval"]["relative_high"] <= 0.01 and report["notes"] == []
    assert [row["batch"] for row in report["batches"]] == [1, 2, 4, 6, 8]
    assert all(row["fault"] is None for row in report["batches"])
    assert not any(stage["skipped"] for stage in report["stages"])
    assert not any(row["fault"] for row in report["candidates"]), "every engine is right here, also those that lost"
    assert SATURATES or report["precision"] == "int8"


def test_int8_is_within_the_budgets_of_float(int8: tuple[str, Path]) -> None:
    report = report_of(int8[1])
    assert (report["verdict"], report["precision"], report["reasons"]) == ("pass", "int8", [])
    assert report["accuracy"]["relative_drop"] <= 0.01 and report["accuracy"]["agreement"] >= 0.99
    assert report["precision_report"]["int8_flop_share"] >= (0.5 if SATURATES else 0.95)
    assert all(row["fault"] is None for row in report["batches"])
    skipped = {stage["name"]: stage["skipped"] for stage in report["stages"]}
    assert skipped["lower"] and not skipped["engine"], "the graph was there already"


def test_every_artifact_is_vouched_for(built: tuple[str, Path]) -> None:
    manifest = Workspace(built[1]).manifest
    for name, record in manifest.files.items():
        assert sha256(built[1] / name) == record["sha256"], name
    assert {"model.onnx", "calibration.json", "reference.npz", "report.html", "openvino/model.qdq.onnx"} <= set(
        manifest.files
    )


def test_the_qdq_file_is_small(built: tuple[str, Path]) -> None:
    """Weights as int8: at least 3.5 times smaller, embedding tables aside, where the placement leaves none float."""
    sizes = [stored_bytes(built[1] / name) for name in ("model.onnx", "openvino/model.qdq.onnx")]
    assert sizes[0] >= (2 if SATURATES else 3.5) * sizes[1]


def stored_bytes(path: Path) -> int:
    model = onnx.load(path)
    return sum(len(t.raw_data) for t in model.graph.initializer if "embeddings.weight" not in t.name)


def test_a_second_run_does_no_work(copy: tuple[str, Path]) -> None:
    model, folder = copy
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}
    again = run("engine", model, "--output", str(folder), *settings(model))
    assert again.returncode == 0
    assert again.stderr.count("up to date") == 7 and "running" not in again.stderr
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.name != ".lock"} == before


def test_another_method_needs_no_forward_pass(built: tuple[str, Path], tmp_path: Path) -> None:
    model, folder = built
    status = run("status", model, "--output", str(folder), "--calibration", "mse", "--json", *settings(model))
    rows = {row["stage"]: row["up_to_date"] for row in json.loads(status.stdout)}
    assert [rows[name] for name in ("quantize", "calibrate", "export", "lower")] == [True, True, True, False]


def test_check_compares_with_the_baseline(copy: tuple[str, Path]) -> None:
    model, folder = copy
    kept = json.loads((folder / "baseline.json").read_text())
    better = {**kept, "accuracy": {**kept["accuracy"], "engine": 1.5}}
    del better["digest"]
    (folder / "baseline.json").write_text(json.dumps(sealed(better)))
    worse = run("check", model, "--output", str(folder))
    assert worse.returncode == 1 and "REGRESSED" in worse.stdout


def test_the_engine_answers_from_python(built: tuple[str, Path]) -> None:
    model, folder = built
    engine = load_engine(folder, threads=1)
    if model == "bert":
        raw = {"question": "Who founded the mill?", "context": "The mill was founded by Marta Kol in 1890."}
        assert engine.run(raw)[0] in raw["context"]
    else:
        image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
        assert engine.run(image).shape == (1, 256, 256)


def test_the_original_head_is_refused_where_the_runtime_computes_it_wrong(tmp_path: Path) -> None:
    """OpenVINO is silently wrong on SegFormer's own decode head on some processors: there no engine is kept."""
    folder = tmp_path / "segformer"
    small = ("shapes.image_size=128", "calibration.samples=8", "verification.samples=4", "verification.runs=5")
    options = [word for setting in small for word in ("--set", setting)]
    done = run("engine", "segformer", "--no-rewrites", "--backend", "openvino", "--output", str(folder), *options)
    backend, graph = backends.get("openvino"), folder / "openvino" / "model.qdq.onnx"
    unchecked = tmp_path / "unchecked"
    unchecked.mkdir()
    backend.build(graph, unchecked, Recipe.load("segformer"), "int8")
    inputs = Reference.read(Workspace(folder)).inputs
    exact, found = (one_by_one(m, inputs)["logits"] for m in (exact_session(graph, 1), backend.load(unchecked, 1)))
    if np.mean(found.argmax(1) == exact.argmax(1)) < 0.98:
        assert done.returncode == 1 and "refused" in done.stderr
        assert not (folder / "openvino/model.xml").exists()
    else:
        assert "verdict" in done.stdout, done.stderr
        report = report_of(folder)
        assert report["accuracy"]["agreement"] >= 0.98
        assert all(o["passed"] for o in report["parity"]["outputs"])
