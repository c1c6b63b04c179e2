"""Our int8 engine on OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.backends import openvino
from pipeline.bench.methods import Runner, built_engine

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace

LABEL = "ours int8, OpenVINO"
PEER = False
unavailable_reason = openvino.unavailable_reason


def load(workspace: Workspace, area: Path, threads: int) -> Runner:
    return built_engine(workspace, openvino.NAME, threads)


make = load  # it writes nothing
