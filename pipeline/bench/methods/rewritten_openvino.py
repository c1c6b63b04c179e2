"""The exact float rewrites alone, in OpenVINO: how much of the speed is not int8."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.backends import openvino
from pipeline.bench.methods import Runner, float_openvino

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace

LABEL = "float with our rewrites, OpenVINO"
PEER = False
unavailable_reason = openvino.unavailable_reason
load = float_openvino.load


def make(workspace: Workspace, area: Path, threads: int) -> Runner:
    float_openvino.build(workspace, workspace.path("model.onnx"), area)
    return load(workspace, area, threads)
