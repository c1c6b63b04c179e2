"""load_engine: the artifact folder as a callable, refused when a file of it was altered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import qdq_models as models
from test_backends import USABLE

import pipeline
from pipeline import backends, stages
from pipeline.artifacts import Workspace
from pipeline.errors import ArtifactError, InputError


def built(folder: Path, backend: str) -> Path:
    models.export(folder, backend)
    stages.run("engine", models.recipe(folder, backend))
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
    with pytest.raises(ArtifactError, match=r"was altered.*make engine MODEL=small"):
        pipeline.load_engine(folder)


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
    folder = built(tmp_path / "small", USABLE[0])
    other = USABLE[1]
    models.lower(Workspace(folder), other)
    stages.run("engine", models.recipe(folder, other))
    with pytest.raises(ArtifactError, match=f"engines of {USABLE[0]}, {other}"):
        pipeline.load_engine(folder)
    with Workspace(folder).staging("verify", {}, {}) as area:
        report = {"backend": other, "latency": {"inputs": {"x": [1, models.WIDTH]}}}
        (area / "report.json").write_text(json.dumps(report))
    assert pipeline.load_engine(folder).backend == other
