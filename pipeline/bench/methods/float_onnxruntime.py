"""The checkpoint as it is, in float ONNX Runtime: what every other method is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.backends import onnxruntime
from pipeline.judge.reference import float_session
from pipeline.report.sections import float_graphs

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.bench.methods import Runner

LABEL = "float, ONNX Runtime"
PEER = False
unavailable_reason = onnxruntime.unavailable_reason


def load(workspace: Workspace, area: Path, threads: int) -> Runner:
    return float_session(float_graphs(workspace)["float_ort"], threads)


make = load  # it writes nothing
