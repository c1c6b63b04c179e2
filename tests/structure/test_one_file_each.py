"""A new family and a new backend are one file each: dropped into a copy of the package, they run as they are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import ROOT
from helpers.runs import options_of, recipe_for
from helpers.usable import USABLE

FAMILY = '''
"""Another family's file: BERT's architectures, without rewrites."""
from pipeline.families.bert import *
from pipeline.families.bert import check, dynamic_axes, input_limits, insert_quantizers, load
SETTINGS = {"calibration.method": "max"}
def rewrites():
    return {}
'''
BACKEND = '''
"""Another backend's file: ONNX Runtime on the graph as it is written, without fusions of its own."""
from pipeline.backends import _defaults, onnxruntime
from pipeline.backends._policy import Policy
NAME, RANK, FILES, PLACEMENT = "plain", 90, ("model.plain.onnx",), Policy(kinds=frozenset({"linear"}))
ON_GPU = OWN_FLOAT_GRAPHS = BUILT_ELSEWHERE = False
settings, precisions, float_graph = _defaults.settings, _defaults.precisions, _defaults.float_graph
command, lint_target = _defaults.command, _defaults.lint_target
unavailable_reason, version = onnxruntime.unavailable_reason, onnxruntime.version
def dialect(recipe):
    return _defaults.on_a_cpu(("merge_equal_pairs", "store_int8_weights"), recipe)
def build(graph, area, recipe, precision="int8"):
    area.mkdir(parents=True, exist_ok=True)
    (area / FILES[0]).write_bytes(graph.read_bytes())
def load(folder, threads):
    return onnxruntime.OnnxRuntimeEngine(folder / FILES[0], onnxruntime.session_options(threads))
'''


@pytest.mark.skipif("onnxruntime" not in USABLE, reason="the backend that is added wraps ONNX Runtime")
def test_a_family_and_a_backend_are_one_file_each(
    tmp_path: Path, checkpoints: dict[str, Path], data: dict[str, Path]
) -> None:
    for package in ("pipeline", "calibration"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors")
        )
    (tmp_path / "pipeline" / "families" / "otherbert.py").write_text(FAMILY, encoding="utf-8")
    (tmp_path / "pipeline" / "backends" / "plain.py").write_text(BACKEND, encoding="utf-8")
    recipe = recipe_for("bert", tmp_path / "made", checkpoints["bert"], data["bert"])
    budgets = ["--set", "budgets.speedup=0", "--set", "budgets.relative_drop=1", "--set", "budgets.agreement=0"]
    answer = subprocess.run(
        [sys.executable, "-m", "pipeline", "engine", "otherbert", "--backend", "plain", *options_of(recipe), *budgets],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr + answer.stdout
    report = json.loads((tmp_path / "made" / "report.json").read_text(encoding="utf-8"))
    made = [report[key] for key in ("family", "backend", "precision", "verdict")]
    assert made == ["otherbert", "plain", "int8", "pass"]
    assert report["calibration"]["method"] == "max", "the family's own setting"
    on = {
        q["kind"]
        for q in json.loads((tmp_path / "made/plain/placement.json").read_bytes())["quantizers"]
        if q["enabled"]
    }
    assert on == {"linear"}, "the backend's own placement"
