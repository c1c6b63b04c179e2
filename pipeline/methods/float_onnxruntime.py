"""The checkpoint as it is, in float ONNX Runtime: what every other method is compared with."""

from __future__ import annotations

from pathlib import Path

from pipeline.artifacts import Workspace
from pipeline.backends import onnxruntime
from pipeline.facts import float_graphs
from pipeline.methods import Runner
from pipeline.reference import float_session

LABEL = "float, ONNX Runtime"
PEER = False
unavailable_reason = onnxruntime.unavailable_reason


def load(workspace: Workspace, area: Path, threads: int) -> Runner:
    return float_session(float_graphs(workspace)["float_ort"], threads)


make = load  # it writes nothing
