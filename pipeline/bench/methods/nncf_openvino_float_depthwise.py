"""NNCF's post-training int8 without the depthwise convolutions, in OpenVINO.

OpenVINO 2026.4 computes the depthwise convolutions of NNCF's SegFormer wrong in int8: with its low-precision passes
off, when it computes the same graph as written, the outputs are close to float's. This is NNCF without them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.bench.methods import Runner, _calibration_data, _peers, nncf_openvino
from pipeline.errors import BackendUnavailable
from pipeline.report.sections import float_graphs

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace

LABEL = "NNCF int8, float depthwise, OpenVINO"
PEER = True
DEPTHWISE = "GroupConvolution"
unavailable_reason = nncf_openvino.unavailable_reason
load = nncf_openvino.load


def make(workspace: Workspace, area: Path, threads: int) -> Runner:
    import openvino

    graph = float_graphs(workspace)["float_ort"]
    if not any(op.get_type_name() == DEPTHWISE for op in openvino.Core().read_model(graph).get_ops()):
        raise BackendUnavailable(f"the model has no depthwise convolutions: the same as {nncf_openvino.LABEL!r}")
    samples = _calibration_data.arrays(workspace)
    _peers.apart(area, nncf_openvino.quantize, graph, area, samples, (DEPTHWISE,))
    return load(workspace, area, threads)
