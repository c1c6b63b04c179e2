"""Symmetric fake quantization as one PyTorch operator, and its translation to QuantizeLinear → DequantizeLinear.

    y = scale · clamp(round(x / scale), low, high)          scale = amax / high

Rounding is half to even and the division is a true division, as the ONNX specification of QuantizeLinear asks:
PyTorch's own fake_quantize operators multiply by the reciprocal, which moves values that sit on a rounding boundary.
The operator is opaque to `torch.export`, so the exporter sees one node per quantizer whatever the shapes, and it
carries the quantizer's name into the ONNX graph. The gradient is the straight-through estimator of Jacob et al. 2018
(arXiv:1712.05877): 1 inside the clipping range, 0 outside.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

PER_TENSOR = -1  # torch operators take no optional int together with tensors of unknown rank


def _broadcast(scale: torch.Tensor, axis: int, rank: int) -> torch.Tensor:
    if axis == PER_TENSOR:
        return scale.reshape(())
    shape = [1] * rank
    shape[axis] = -1
    return scale.reshape(shape)


@torch.library.custom_op("int8_pipeline::fake_quantize", mutates_args=())
def fake_quantize(x: torch.Tensor, scale: torch.Tensor, axis: int, low: int, high: int, name: str) -> torch.Tensor:
    """Returns x rounded to the grid `scale · [low, high]`.

    x: any shape; scale: scalar (axis −1) or [C] along `axis`; `name` only travels into the exported graph.
    """
    step = _broadcast(scale, axis, x.dim())
    return torch.round(x / step).clamp_(low, high).mul_(step)


@fake_quantize.register_fake
def _(x: torch.Tensor, scale: torch.Tensor, axis: int, low: int, high: int, name: str) -> torch.Tensor:
    return torch.empty_like(x)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, scale, axis, low, high, _ = inputs
    step = _broadcast(scale, axis, x.dim())
    ctx.save_for_backward((x >= low * step) & (x <= high * step))


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None, None]:
    (inside,) = ctx.saved_tensors
    return grad * inside, None, None, None, None, None


fake_quantize.register_autograd(_backward, setup_context=_setup)


def onnx_translation() -> dict[Any, Any]:
    """Returns the `custom_translation_table` for `torch.onnx.export(dynamo=True)`."""
    import onnx_ir as ir
    from onnxscript import opset20 as op

    from pipeline.graph.pairs import QUANTIZER

    def translate(x: Any, scale: Any, axis: int, low: int, high: int, name: str) -> Any:
        if (low, high) != (-128, 127):
            raise ValueError(f"{name}: QuantizeLinear of this export is signed 8-bit, the range is [{low}, {high}]")
        zeros = np.zeros(() if axis == PER_TENSOR else (scale.shape[0],), dtype=np.int8)
        zero_point = op.Constant(value=ir.tensor(zeros))
        # the axis attribute means nothing for a scalar scale; ONNX checks its range all the same
        attributes = {} if axis == PER_TENSOR else {"axis": axis}
        quantized = op.QuantizeLinear(x, scale, zero_point, **attributes)
        restored = op.DequantizeLinear(quantized, scale, zero_point, **attributes)
        for value in (quantized, restored):
            value.producer().metadata_props[QUANTIZER] = name
        return restored

    return {torch.ops.int8_pipeline.fake_quantize.default: translate}
