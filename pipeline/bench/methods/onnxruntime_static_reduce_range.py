"""ONNX Runtime's static int8 quantization with weights of 7 bits, as it recommends for processors without VNNI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.bench.methods import Runner, _calibration_data, _peers, onnxruntime_static
from pipeline.report.sections import float_graphs

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace

LABEL = "ONNX Runtime static int8, reduced range"
PEER = True
load = onnxruntime_static.load


def unavailable_reason() -> str | None:
    return onnxruntime_static.unavailable_reason() or _peers.no_saturation(onnxruntime_static.LABEL)


def make(workspace: Workspace, area: Path, threads: int) -> Runner:
    samples, graph = _calibration_data.arrays(workspace), float_graphs(workspace)["float_ort"]
    _peers.apart(area, onnxruntime_static.quantize, graph, area / onnxruntime_static.QUANTIZED, samples, True)
    return load(workspace, area, threads)
