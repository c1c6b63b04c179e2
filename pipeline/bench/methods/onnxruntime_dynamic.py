"""ONNX Runtime's dynamic int8 quantization of the checkpoint as it is: activation ranges are found at every run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.bench.methods import Runner, _peers, onnxruntime_static
from pipeline.report.sections import float_graphs

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace

LABEL = "ONNX Runtime dynamic int8"
PEER = True
unavailable_reason = onnxruntime_static.unavailable_reason
load = onnxruntime_static.load


def make(workspace: Workspace, area: Path, threads: int) -> Runner:
    _peers.apart(area, quantize, float_graphs(workspace)["float_ort"], area / onnxruntime_static.QUANTIZED)
    return load(workspace, area, threads)


def quantize(float_onnx: Path, quantized: Path, reduce_range: bool = False) -> None:
    """Writes the graph with int8 weights, per channel; reduce_range: of 7 bits."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    prepared = onnxruntime_static.prepare(float_onnx, quantized.parent)
    quantize_dynamic(prepared, quantized, per_channel=True, reduce_range=reduce_range, weight_type=QuantType.QInt8)
