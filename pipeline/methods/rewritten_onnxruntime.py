"""The exact float rewrites alone, in ONNX Runtime: how much of the speed is not int8."""

from __future__ import annotations

from pathlib import Path

from pipeline.artifacts import Workspace
from pipeline.backends import onnxruntime
from pipeline.methods import Runner
from pipeline.reference import float_session

LABEL = "float with our rewrites, ONNX Runtime"
PEER = False
unavailable_reason = onnxruntime.unavailable_reason


def load(workspace: Workspace, area: Path, threads: int) -> Runner:
    return float_session(workspace.path("model.onnx"), threads)


make = load  # it writes nothing
