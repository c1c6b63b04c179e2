"""ONNX Runtime's static int8 quantization of the checkpoint as it is, in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.backends import onnxruntime as backend
from pipeline.bench.methods import Runner, _calibration_data, _peers
from pipeline.judge.reference import float_session
from pipeline.report.sections import float_graphs

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.bench.methods._calibration_data import Arrays

LABEL = "ONNX Runtime static int8"
PEER = True
QUANTIZED = "quantized.onnx"


def unavailable_reason() -> str | None:
    return backend.unavailable_reason() or _peers.missing("onnx", "sympy")


def make(workspace: Workspace, area: Path, threads: int) -> Runner:
    samples = _calibration_data.arrays(workspace)
    _peers.apart(area, quantize, float_graphs(workspace)["float_ort"], area / QUANTIZED, samples)
    return load(workspace, area, threads)


def load(workspace: Workspace, area: Path, threads: int) -> Runner:
    return float_session(area / QUANTIZED, threads)


def prepare(float_onnx: Path, area: Path) -> Path:
    """Returns the graph after the pre-processing that ONNX Runtime asks for: symbolic shapes, then optimization."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = area / "prepared.onnx"
    quant_pre_process(float_onnx, prepared, auto_merge=True)
    return prepared


def quantize(float_onnx: Path, quantized: Path, samples: Arrays, reduce_range: bool = False) -> None:
    """Writes the QDQ graph, with what ONNX Runtime recommends on x86 with VNNI: uint8 activations, int8 weights
    per channel in the full range, the smallest and largest value as the range.

    Only the operators with weights or products: with every type that it knows, it quantizes BERT's attention mask
    too, whose smallest value is the most negative float32, and the model is lost. reduce_range: weights of 7 bits,
    which it recommends without VNNI.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    quantize_static(
        prepare(float_onnx, quantized.parent),
        quantized,
        _calibration_data.reader(samples),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul", "Gemm", "Conv"],
        per_channel=True,
        reduce_range=reduce_range,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )
