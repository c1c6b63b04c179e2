"""Our int8 engine on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

from pipeline.artifacts import Workspace
from pipeline.backends import onnxruntime
from pipeline.methods import Runner, built_engine

LABEL = "ours int8, ONNX Runtime"
PEER = False
unavailable_reason = onnxruntime.unavailable_reason


def load(workspace: Workspace, area: Path, threads: int) -> Runner:
    return built_engine(workspace, onnxruntime.NAME, threads)


make = load  # it writes nothing
