"""load_engine: the artifact folder as a callable, refused when a file of it was altered."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import pipeline
from helpers import ROOT
from helpers import qdq_models as models
from helpers.command_line import printed, recipe_of
from helpers.usable import USABLE
from pipeline import backends, stages
from pipeline.artifacts import Workspace
from pipeline.errors import ArtifactError, InputError


def built(folder: Path, backend: str) -> Path:
    models.export(folder, backend)
    for name in ("engine", "verify"):
        stages.run(name, models.recipe(folder, backend, **{"budgets.speedup": 0.0}))
    return folder


@pytest.mark.parametrize("backend", USABLE)
def test_loaded_engine_gives_the_backends_outputs(backend: str, tmp_path: Path) -> None:
    folder = built(tmp_path / "small", backend)
    engine = pipeline.load_engine(folder, threads=1)
    feeds = models.feeds(folder / backend / "model.qdq.onnx", 3)
    expected = backends.get(backend).load(folder / backend, 1)(feeds)
    assert (engine.backend, engine.input_names, engine.output_names) == (backend, ("x",), ("logits",))
    np.testing.assert_array_equal(engine(feeds)["logits"], expected["logits"])
    engine.prepare({"x": (3, models.WIDTH)})
    np.testing.assert_allclose(engine(feeds)["logits"], expected["logits"], atol=1e-6)
    context = {"class_names": np.array([f"c{i}" for i in range(models.CLASSES)])}
    answers = engine.postprocess(expected, context)
    assert answers == [f"c{i}" for i in expected["logits"].argmax(1)]


@pytest.mark.parametrize("backend", USABLE)
def test_an_altered_engine_is_refused(backend: str, tmp_path: Path) -> None:
    folder = built(tmp_path / "small", backend)
    file = folder / backend / backends.get(backend).FILES[-1]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match="was altered") as error:
        pipeline.load_engine(folder)
    (words,) = printed(error.value)
    assert (recipe_of(words).folder, recipe_of(words).backend) == (folder, backend)


def test_a_missing_folder_and_a_folder_without_engine(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        pipeline.load_engine(tmp_path / "nothing")
    models.export(tmp_path / "small", USABLE[0])
    with pytest.raises(ArtifactError, match="no engine and no report"):
        pipeline.load_engine(tmp_path / "small")
    with pytest.raises(ArtifactError, match="is missing"):
        pipeline.load_engine(tmp_path / "small", backend=USABLE[0])


@pytest.mark.skipif(len(USABLE) < 2, reason="needs two backends that work here")
def test_the_report_names_the_backend(tmp_path: Path) -> None:
    """With engines of two backends in one folder, the one that was judged last is loaded."""
    folder, other = tmp_path / "small", USABLE[1]
    models.export(folder, USABLE[0])
    models.lower(Workspace(folder), other)
    for name in USABLE[:2]:
        stages.run("engine", models.recipe(folder, name))
    with pytest.raises(ArtifactError, match=f"engines of {USABLE[0]}, {other}"):
        pipeline.load_engine(folder)
    for name in USABLE[1::-1]:
        stages.run("verify", models.recipe(folder, name, **{"budgets.speedup": 0.0}))
    assert pipeline.load_engine(folder, threads=1).backend == USABLE[0]
    stages.run("verify", models.recipe(folder, other, **{"budgets.speedup": 0.0}), force=True)
    assert pipeline.load_engine(folder).backend == other


# --- used until the end: threads, processes, files that change ---


@pytest.mark.parametrize("backend", USABLE)
def test_any_thread_may_call(backend: str, tmp_path: Path) -> None:
    engine = pipeline.load_engine(built(tmp_path / "small", backend), threads=1)
    graph = tmp_path / "small" / backend / "model.qdq.onnx"
    feeds = [models.feeds(graph, 1 + i % 3, seed=i) for i in range(8)]
    expected = [engine(f)["logits"].copy() for f in feeds]

    def call(i: int) -> None:
        np.testing.assert_array_equal(engine(feeds[i % 8])["logits"], expected[i % 8])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, range(200)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("backend", USABLE)
def test_after_a_fork_it_says_so(backend: str, tmp_path: Path) -> None:
    code = (
        "import os, sys, pipeline, numpy as np\n"
        f"engine = pipeline.load_engine({str(built(tmp_path / 'small', backend))!r}, threads=1)\n"
        f"feeds = {{'x': np.ones((1, {models.WIDTH}), np.float32)}}\n"
        "engine(feeds)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    try:\n"
        "        engine(feeds)\n"
        "    except pipeline.errors.InputError as error:\n"
        "        print(error, flush=True)\n"
        "        os._exit(7)\n"
        "    os._exit(0)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 7 and "was loaded before this process was forked" in done.stdout, done.stderr


@pytest.mark.parametrize("in_place", [True, False], ids=["overwritten", "replaced"])
@pytest.mark.parametrize("backend", USABLE)
def test_what_was_checked_at_loading_is_used_until_the_end(backend: str, in_place: bool, tmp_path: Path) -> None:
    """New shapes are compiled later: not from files that are another engine's by then."""
    folder = built(tmp_path / "small", backend)
    engine = pipeline.load_engine(folder, threads=1)
    feeds = models.feeds(folder / backend / "model.qdq.onnx", 5)
    expected = backends.get(backend).load(folder / backend, 1)(feeds)["logits"]
    other = models.linear(tmp_path / "other.onnx", seed=9)
    backends.get(backend).build(other, tmp_path / "other", models.recipe(folder, backend))
    for file in backends.get(backend).FILES:
        target = folder / backend / file
        if in_place:
            target.write_bytes((tmp_path / "other" / file).read_bytes())
        else:
            (tmp_path / "other" / file).replace(target)
    found = engine(feeds)["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-6)


# --- an engine's own verdict ---


def test_an_engine_that_was_not_judged_is_refused(tmp_path: Path) -> None:
    """As after a kill between engine and verify: the older verdict is another engine's."""
    folder, backend = built(tmp_path / "small", USABLE[0]), USABLE[0]
    models.lower(Workspace(folder), backend, signed=backend == "onnxruntime")  # another graph of the same values
    stages.run("engine", models.recipe(folder, backend))
    with pytest.raises(ArtifactError, match=rf"has no verdict of its own.*verify bert --backend {backend} "):
        pipeline.load_engine(folder)
    assert pipeline.load_engine(folder, threads=1, unverified=True).backend == backend
    stages.run("verify", models.recipe(folder, backend, **{"budgets.speedup": 0.0}))
    assert pipeline.load_engine(folder, threads=1).backend == backend


def test_an_engine_that_failed_is_refused_with_its_reasons(tmp_path: Path) -> None:
    folder, backend = tmp_path / "small", USABLE[0]
    models.export(folder, backend)
    recipe = models.recipe(folder, backend, **{"budgets.speedup": 1000.0})
    for name in ("engine", "verify"):
        stages.run(name, recipe)
    with pytest.raises(ArtifactError, match=r"failed its verification: the speed-up is .* the budget is 1000\."):
        pipeline.load_engine(folder)
    assert pipeline.load_engine(folder, threads=1, unverified=True).backend == backend
