"""NNCF's post-training int8 with its overflow fix, weights of 7 bits, in OpenVINO: for processors without VNNI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.bench.methods import Runner, _calibration_data, _peers, nncf_openvino
from pipeline.report.sections import float_graphs

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace

LABEL = "NNCF int8, overflow fix, OpenVINO"
PEER = True
load = nncf_openvino.load


def unavailable_reason() -> str | None:
    return nncf_openvino.unavailable_reason() or _peers.no_saturation(nncf_openvino.LABEL)


def make(workspace: Workspace, area: Path, threads: int) -> Runner:
    samples, graph = _calibration_data.arrays(workspace), float_graphs(workspace)["float_ort"]
    _peers.apart(area, nncf_openvino.quantize, graph, area, samples, (), "enable")
    return load(workspace, area, threads)
