"""ONNX Runtime's own int8 quantization of the checkpoint as it is, in ONNX Runtime: static and dynamic.

Weights of 7 bits ("reduced range") are what it recommends for processors without VNNI.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.bench.methods import _calibration_data, _peers
from pipeline.judge.reference import float_session

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.bench.methods._calibration_data import Arrays
    from pipeline.bench.timing import Runner

STATIC, DYNAMIC = "ONNX Runtime static int8", "ONNX Runtime dynamic int8"
QUANTIZED = "quantized.onnx"


class Static(_peers.Peer):
    """What ONNX Runtime recommends on x86 with VNNI: uint8 activations, int8 weights per channel in the full range, the
    smallest and largest value as the range.

    Only the operators with weights or products: with every type that it knows, it quantizes BERT's attention mask
    too, whose smallest value is the most negative float32, and the model is lost.
    """

    packages = ("onnx", "sympy")

    def load(self, workspace: Workspace, area: Path, threads: int) -> Runner:
        return float_session(area / QUANTIZED, threads)

    def quantize(self, float_onnx: Path, area: Path, samples: Arrays) -> None:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        quantize_static(
            prepare(float_onnx, area),
            area / QUANTIZED,
            _calibration_data.reader(_calibration_data.one_by_one(samples)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm", "Conv"],
            per_channel=True,
            reduce_range=self.same_in_8_bits is not None,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )


class Dynamic(Static):
    """Weights of int8, per channel; the ranges of activations are found at every run."""

    calibrated = False

    def quantize(self, float_onnx: Path, area: Path, samples: Arrays) -> None:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(
            prepare(float_onnx, area),
            area / QUANTIZED,
            per_channel=True,
            reduce_range=self.same_in_8_bits is not None,
            weight_type=QuantType.QInt8,
        )


def prepare(float_onnx: Path, area: Path) -> Path:
    """Returns the graph after the pre-processing that ONNX Runtime asks for: symbolic shapes, then optimization."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = area / "prepared.onnx"
    quant_pre_process(float_onnx, prepared, auto_merge=True)
    return prepared


METHODS = {
    "onnxruntime_static": Static(STATIC, "onnxruntime"),
    "onnxruntime_static_reduce_range": Static(f"{STATIC}, reduced range", "onnxruntime", same_in_8_bits=STATIC),
    "onnxruntime_dynamic": Dynamic(DYNAMIC, "onnxruntime"),
    "onnxruntime_dynamic_reduce_range": Dynamic(f"{DYNAMIC}, reduced range", "onnxruntime", same_in_8_bits=DYNAMIC),
}
