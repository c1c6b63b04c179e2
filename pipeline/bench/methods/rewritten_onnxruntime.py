"""The exact float rewrites alone, in ONNX Runtime: how much of the speed is not int8."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.backends import onnxruntime
from pipeline.judge.reference import float_session

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.bench.methods import Runner

LABEL = "float with our rewrites, ONNX Runtime"
PEER = False
unavailable_reason = onnxruntime.unavailable_reason


def load(workspace: Workspace, area: Path, threads: int) -> Runner:
    return float_session(workspace.path("model.onnx"), threads)


make = load  # it writes nothing
