"""NVIDIA ModelOpt's int8 QDQ graph of the checkpoint as it is, in OpenVINO: a placement made for TensorRT."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.backends import openvino as backend
from pipeline.bench.methods import Runner, _calibration_data, _peers
from pipeline.recipe import Recipe
from pipeline.report.sections import float_graphs

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.bench.methods._calibration_data import Arrays

LABEL = "ModelOpt int8, OpenVINO"
PEER = True


def unavailable_reason() -> str | None:
    return backend.unavailable_reason() or _peers.missing("modelopt", "onnx_graphsurgeon", "onnxslim", "lief")


def make(workspace: Workspace, area: Path, threads: int) -> Runner:
    samples = _calibration_data.arrays(workspace)
    quantized = area / "quantized.onnx"
    _peers.apart(area, quantize, float_graphs(workspace)["float_ort"], quantized, samples)
    backend.build(quantized, area, Recipe.load(workspace.manifest.recipe["family"]))
    return load(workspace, area, threads)


def load(workspace: Workspace, area: Path, threads: int) -> Runner:
    return backend.load(area, threads)


def quantize(float_onnx: Path, quantized: Path, samples: Arrays) -> None:
    """Writes the QDQ graph: ModelOpt's default placement, `max` calibration as its guide shows for vision
    transformers, the float part in float32 (the default is float16, for GPUs).
    """
    from modelopt.onnx.quantization import quantize as modelopt_quantize

    source = shutil.copyfile(float_onnx, quantized.with_name("float.onnx"))  # it writes beside its input
    shapes = ",".join(f"{name}:{'x'.join(map(str, (1, *x.shape[1:])))}" for name, x in samples.items())
    modelopt_quantize(
        str(source),
        quantize_mode="int8",
        calibration_data=samples,
        calibration_method="max",
        calibration_shapes=shapes,
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=str(quantized),
        log_level="ERROR",
    )
