"""Symmetric fake quantization as one PyTorch operator, and its translation to QuantizeLinear → DequantizeLinear.

    y = scale · clamp(round(x / scale), low, high)          scale = amax / high

Rounding is half to even and the division a true one, as ONNX specifies QuantizeLinear; PyTorch's own fake_quantize
operators multiply by the reciprocal, which moves values on a rounding boundary. It is computed in float32 at least,
and for a half-precision tensor rounded once more to its type.
The operator is opaque to `torch.export`, so the exporter sees one node per quantizer whatever the shapes, and it
carries the quantizer's name into the ONNX graph. The gradient is the straight-through estimator of Jacob et al. 2018
(arXiv:1712.05877): 1 where |x| ≤ amax, 0 elsewhere.
"""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import torch

PER_TENSOR = -1  # torch operators take no optional int together with tensors of unknown rank


def computed_in(x: torch.Tensor) -> torch.dtype:
    """Returns float64 for a float64 tensor, float32 otherwise."""
    return torch.promote_types(x.dtype, torch.float32)


def _widened(x: torch.Tensor) -> torch.Tensor:
    wide = computed_in(x)
    return x if x.dtype == wide else x.to(wide)  # an operator's parts may not return their input


def _broadcast(value: torch.Tensor, axis: int, rank: int) -> torch.Tensor:
    if axis == PER_TENSOR:
        return value
    shape = [1] * rank
    shape[axis] = -1
    return value.reshape(shape)


@torch.library.custom_op("int8_pipeline::fake_quantize", mutates_args=())
def fake_quantize(
    x: torch.Tensor,
    scale: torch.Tensor,
    axis: int,
    low: int,
    high: int,
    name: str,
    amax: Optional[torch.Tensor] = None,  # noqa: UP045 -- torch reads the schema from it
) -> torch.Tensor:
    """Returns x rounded to the grid `scale · [low, high]`.

    x: any shape; scale: [C] along `axis`, or broadcastable to x (axis −1); amax: of scale's shape, high · scale if
    absent. It bounds the range with a gradient; where it is 0 every value becomes 0, whatever the scale. Raises
    ValueError for a negative amax, TypeError for a negative x if low is 0. `name` is for messages and the graph.
    """
    step = _broadcast(scale, axis, x.dim())
    if (scale < 0).any():
        raise ValueError(f"{name or 'quantizer'}: negative values in amax, the lowest {float(scale.min()) * high:g}.")
    if low == 0 and (x < 0).any():
        raise TypeError(f"{name or 'quantizer'}: unsigned, and x has negative values, the lowest {float(x.min()):g}.")
    if x.dim() < step.dim() or any(
        n not in (1, size) for n, size in zip(step.shape[::-1], x.shape[::-1], strict=False)
    ):
        raise ValueError(
            f"{name or 'quantizer'}: amax of shape {list(step.shape)} does not broadcast to x, {list(x.shape)}."
        )
    wide = _widened(x)
    divisor = step if amax is None else torch.where(_broadcast(amax / high, axis, x.dim()) == 0, torch.inf, step)
    return torch.round(wide / divisor).clamp_(low, high).mul_(step).to(x.dtype)


@fake_quantize.register_fake
def _(
    x: torch.Tensor,
    scale: torch.Tensor,
    axis: int,
    low: int,
    high: int,
    name: str,
    amax: Optional[torch.Tensor] = None,  # noqa: UP045
) -> torch.Tensor:
    return torch.empty_like(x)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, scale, axis, _, high, _, amax = inputs
    limit = _broadcast(high * scale if amax is None else amax, axis, x.dim())
    ctx.save_for_backward(_widened(x.abs()) <= limit)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    (inside,) = ctx.saved_tensors
    return torch.where(inside, grad, 0.0), None, None, None, None, None, None


fake_quantize.register_autograd(_backward, setup_context=_setup)


def onnx_translation() -> dict[Any, Any]:
    """Returns the `custom_translation_table` for `torch.onnx.export(dynamo=True)`."""
    import onnx_ir as ir
    from onnxscript import opset20 as op

    from calibration.arithmetic import HIGH, LOW
    from pipeline.graph.pairs import QUANTIZER

    def translate(x: Any, scale: Any, axis: int, low: int, high: int, name: str, amax: Any = None) -> Any:
        if (low, high) != (LOW, HIGH):
            raise ValueError(f"{name}: QuantizeLinear of this export is signed 8-bit, the range is [{low}, {high}]")
        if len(scale.shape) != (axis != PER_TENSOR):
            raise ValueError(f"{name}: QuantizeLinear has one scale, or one per channel of an axis; not {scale.shape}")
        if x.dtype != scale.dtype:
            scale = op.Cast(scale, to=x.dtype)
        zeros = np.zeros(() if axis == PER_TENSOR else (scale.shape[0],), dtype=np.int8)
        zero_point = op.Constant(value=ir.tensor(zeros))
        # the axis means nothing for a scalar scale, but ONNX checks its range all the same
        attributes = {} if axis == PER_TENSOR else {"axis": axis}
        quantized = op.QuantizeLinear(x, scale, zero_point, **attributes)
        restored = op.DequantizeLinear(quantized, scale, zero_point, **attributes)
        for value in (quantized, restored):
            value.producer().metadata_props[QUANTIZER] = name
        return restored

    return {torch.ops.int8_pipeline.fake_quantize.default: translate}
