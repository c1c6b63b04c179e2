"""One PyTorch model to one ONNX graph, by the `torch.export`-based exporter."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import torch

from pipeline.quantization.fake_quantize import onnx_translation

OPSET = 20  # the first with Gelu as one node


def export_onnx(
    model: torch.nn.Module,
    inputs: dict[str, np.ndarray],
    outputs: tuple[str, ...],
    dynamic: dict[str, dict[int, str]],
) -> ir.Model:
    """Returns the graph of `model` in evaluation mode, quantizers as QuantizeLinear → DequantizeLinear.

    inputs: one example per input name, batch at least 2 (the exporter takes a dimension of 1 for a constant);
    dynamic: {input: {axis: dimension name}}.
    """
    dims = {dim: torch.export.Dim(dim) for axes in dynamic.values() for dim in axes.values()}
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            model.eval(),
            kwargs={name: torch.from_numpy(value) for name, value in inputs.items()},
            dynamo=True,
            opset_version=OPSET,
            output_names=list(outputs),
            dynamic_shapes={name: {axis: dims[dim] for axis, dim in dynamic.get(name, {}).items()} for name in inputs},
            custom_translation_table=onnx_translation(),
            optimize=False,  # `graph.tidy` does it, and keeps quantizers apart
            verbose=False,
        )
    return program.model  # type: ignore[union-attr]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides the exporter's warnings about its own deprecations and about packages that are not there."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            exporter.setLevel(level)
