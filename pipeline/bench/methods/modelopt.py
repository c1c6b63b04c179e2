"""NVIDIA ModelOpt's int8 QDQ graph of the checkpoint as it is, in OpenVINO: a placement made for TensorRT."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import backends
from pipeline.bench.methods import _peers
from pipeline.recipe import Recipe

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.bench.methods._calibration_data import Arrays

QUANTIZED = "quantized.onnx"


class ModelOpt(_peers.Peer):
    """Its default placement, `max` calibration as its guide shows for vision transformers, the float part in float32
    (the default is float16, for GPUs)."""

    packages = ("modelopt", "onnx_graphsurgeon", "onnxslim", "lief")

    def build(self, workspace: Workspace, area: Path) -> None:
        super().build(workspace, area)
        recipe = Recipe.load(workspace.manifest.recipe["family"])
        backends.get(self.backend).build(area / QUANTIZED, area, recipe)

    def quantize(self, float_onnx: Path, area: Path, samples: Arrays) -> None:
        from modelopt.onnx.quantization import quantize as modelopt_quantize

        source = shutil.copyfile(float_onnx, area / "float.onnx")  # it writes beside its input
        shapes = ",".join(f"{name}:{'x'.join(map(str, (1, *x.shape[1:])))}" for name, x in samples.items())
        modelopt_quantize(
            str(source),
            quantize_mode="int8",
            calibration_data=samples,
            calibration_method="max",
            calibration_shapes=shapes,
            calibration_eps=["cpu"],
            high_precision_dtype="fp32",
            output_path=str(area / QUANTIZED),
            log_level="ERROR",
        )


METHODS = {"modelopt_openvino": ModelOpt("ModelOpt int8, OpenVINO", "openvino")}
