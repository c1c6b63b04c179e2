"""ONNX Runtime's dynamic int8 quantization with weights of 7 bits, as it recommends for processors without VNNI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.bench.methods import Runner, _peers, onnxruntime_dynamic, onnxruntime_static
from pipeline.report.sections import float_graphs

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace

LABEL = "ONNX Runtime dynamic int8, reduced range"
PEER = True
load = onnxruntime_static.load


def unavailable_reason() -> str | None:
    return onnxruntime_dynamic.unavailable_reason() or _peers.no_saturation(onnxruntime_dynamic.LABEL)


def make(workspace: Workspace, area: Path, threads: int) -> Runner:
    graph = float_graphs(workspace)["float_ort"]
    _peers.apart(area, onnxruntime_dynamic.quantize, graph, area / onnxruntime_static.QUANTIZED, True)
    return load(workspace, area, threads)
