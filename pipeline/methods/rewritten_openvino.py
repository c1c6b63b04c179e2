"""The exact float rewrites alone, in OpenVINO: how much of the speed is not int8."""

from __future__ import annotations

from pathlib import Path

from pipeline.artifacts import Workspace
from pipeline.backends import openvino
from pipeline.methods import Runner, float_openvino

LABEL = "float with our rewrites, OpenVINO"
PEER = False
unavailable_reason = openvino.unavailable_reason
load = float_openvino.load


def make(workspace: Workspace, area: Path, threads: int) -> Runner:
    float_openvino.build(workspace, workspace.path("model.onnx"), area)
    return load(workspace, area, threads)
