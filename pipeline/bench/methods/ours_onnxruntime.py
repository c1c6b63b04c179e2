"""Our int8 engine on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.backends import onnxruntime
from pipeline.bench.methods import Runner, built_engine

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace

LABEL = "ours int8, ONNX Runtime"
PEER = False
unavailable_reason = onnxruntime.unavailable_reason


def load(workspace: Workspace, area: Path, threads: int) -> Runner:
    return built_engine(workspace, onnxruntime.NAME, threads)


make = load  # it writes nothing
