"""NNCF's post-training int8 of the checkpoint as it is, in OpenVINO: that runtime's own quantizer."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.backends import openvino as backend
from pipeline.bench.methods import Runner, _calibration_data, _peers
from pipeline.report.sections import float_graphs

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.bench.methods._calibration_data import Arrays

LABEL = "NNCF int8, OpenVINO"
PEER = True


def unavailable_reason() -> str | None:
    return backend.unavailable_reason() or _peers.missing("nncf")


def make(workspace: Workspace, area: Path, threads: int) -> Runner:
    samples = _calibration_data.arrays(workspace)
    _peers.apart(area, quantize, float_graphs(workspace)["float_ort"], area, samples)
    return load(workspace, area, threads)


def load(workspace: Workspace, area: Path, threads: int) -> Runner:
    return backend.load(area, threads)


def quantize(
    float_onnx: Path,
    area: Path,
    samples: Arrays,
    ignored_types: tuple[str, ...] = (),
    overflow_fix: str = "first_layer_only",
) -> None:
    """Writes the OpenVINO model with NNCF's FakeQuantize nodes: its settings for transformers, all else default.

    That model type means the `mixed` preset (symmetric weights, asymmetric activations), no quantizers where
    attention loses accuracy by them, and SmoothQuant. ignored_types: operators that stay float. overflow_fix: "enable"
    for weights of 7 bits, which cannot saturate without VNNI, "first_layer_only" as NNCF has it by default.
    """
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    model = nncf.quantize(
        openvino.Core().read_model(float_onnx),
        nncf.Dataset(list(_calibration_data.one_by_one(samples))),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=_calibration_data.count(samples),
        ignored_scope=nncf.IgnoredScope(types=list(ignored_types)),
        advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix(overflow_fix)),
    )
    openvino.save_model(model, area / backend.FILES[0], compress_to_fp16=False)
