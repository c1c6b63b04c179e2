"""NNCF's post-training int8 of the checkpoint as it is, in OpenVINO: that runtime's own quantizer."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.backends import openvino as backend
from pipeline.bench.methods import _calibration_data, _peers, original
from pipeline.errors import BackendUnavailable

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.bench.methods._calibration_data import Arrays

LABEL = "NNCF int8, OpenVINO"
DEPTHWISE = "GroupConvolution"


@dataclass(frozen=True)
class Nncf(_peers.Peer):
    """Its settings for transformers, all else default.

    That model type means the `mixed` preset (symmetric weights, asymmetric activations), no quantizers where attention
    loses accuracy by them, and SmoothQuant. overflow_fix: "enable" for weights of 7 bits, which cannot saturate without
    VNNI, "first_layer_only" as NNCF has it by default. float_types: operators that stay float.
    """

    float_types: tuple[str, ...] = ()
    overflow_fix: str = "first_layer_only"
    packages = ("nncf",)

    def quantize(self, float_onnx: Path, area: Path, samples: Arrays) -> None:
        """Writes the OpenVINO model with NNCF's FakeQuantize nodes."""
        import nncf
        import openvino

        nncf.set_log_level(logging.ERROR)
        model = nncf.quantize(
            openvino.Core().read_model(float_onnx),
            nncf.Dataset(_calibration_data.one_by_one(samples)),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=_calibration_data.count(samples),
            ignored_scope=nncf.IgnoredScope(types=list(self.float_types)),
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix(self.overflow_fix)),
        )
        openvino.save_model(model, area / backend.FILES[0], compress_to_fp16=False)


class FloatDepthwise(Nncf):
    """NNCF without the depthwise convolutions.

    OpenVINO 2026.4 computes those of NNCF's SegFormer wrong in int8: with its low-precision passes off, when it
    computes the same graph as written, the outputs are close to float's.
    """

    def build(self, workspace: Workspace, area: Path) -> None:
        import openvino

        if not any(op.get_type_name() == DEPTHWISE for op in openvino.Core().read_model(original(workspace)).get_ops()):
            raise BackendUnavailable(f"the model has no depthwise convolutions: the same as {LABEL!r}")
        super().build(workspace, area)


METHODS = {
    "nncf_openvino": Nncf(LABEL, "openvino"),
    "nncf_openvino_float_depthwise": FloatDepthwise(
        "NNCF int8, float depthwise, OpenVINO", "openvino", float_types=(DEPTHWISE,)
    ),
    "nncf_openvino_overflow_fix": Nncf(
        "NNCF int8, overflow fix, OpenVINO", "openvino", same_in_8_bits=LABEL, overflow_fix="enable"
    ),
}
