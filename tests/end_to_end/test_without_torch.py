"""A machine with only the runtime: engine, verify and load_engine where torch cannot be imported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers import qdq_models as models
from helpers.command_line import python
from helpers.usable import USABLE

ABSENT = ("torch", "transformers", "onnx_ir", "onnx", "onnxscript", "pytorch_quantization")
STAGES = """
from pathlib import Path
import numpy as np
import pipeline
from pipeline import stages
from pipeline.cli import doctor
from pipeline.report import baseline
from pipeline.recipe import Recipe

folder, backend = Path({folder!r}), {backend!r}
values = {{"folder": str(folder), "backend": backend, "verification.threads": 1, "verification.runs": 5,
          "budgets.speedup": 0, "shapes.batches": (1, 2)}}
recipe = Recipe.load("bert", overrides=values)
for name in ("engine", "verify"):
    assert not stages.run(name, recipe)["skipped"]
engine = pipeline.load_engine(folder, threads=1)
assert engine({{"x": np.zeros((2, 32), np.float32)}})["logits"].shape == (2, 4)
assert {{row["backend"] for row in doctor.rows()}} >= {{backend}}
"""


def run(body: str, *more: str) -> None:
    done = python(body, absent=(*ABSENT, *more))
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("backend", USABLE)
def test_engine_and_verify_run(backend: str, tmp_path: Path) -> None:
    models.export(tmp_path / "small", backend)
    run(STAGES.format(folder=str(tmp_path / "small"), backend=backend))
    assert (tmp_path / "small" / "report.html").stat().st_size > 1000


@pytest.mark.parametrize("backend", [name for name in USABLE if name != "onnxruntime"])
def test_engine_and_verify_run_without_onnxruntime(backend: str, tmp_path: Path) -> None:
    models.export(tmp_path / "small", backend)
    run(STAGES.format(folder=str(tmp_path / "small"), backend=backend), "onnxruntime")
    report = json.loads((tmp_path / "small" / "report.json").read_text(encoding="utf-8"))
    assert report["verdict"] == "pass" and report["latency"]["speedup"] is None
    assert "'onnxruntime' is not installed" in report["latency"]["not_compared"]
    assert "float ONNX Runtime was not timed: " in (tmp_path / "small" / "report.html").read_text(encoding="utf-8")


def test_the_blocking_works() -> None:
    """Otherwise the tests above would pass whatever is imported."""
    with pytest.raises(AssertionError, match="No module named 'torch'"):
        run("import torch")
