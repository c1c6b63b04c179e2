"""The products of a QDQ graph that run in int8, and their stored weights; read only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from calibration.arithmetic import Grid
from pipeline.graph.nodes import DQ, PRODUCTS, Q, producer
from pipeline.graph.walks import Path, back


@dataclass(frozen=True)
class ByteProduct:
    """A product of two dequantized factors. codes: the stored factor, int8 [N, P, C] (see `as_rows`), None if both are
    computed at run time.
    """

    node: ir.Node
    codes: np.ndarray | None


def byte_products(model: ir.Model) -> Iterator[ByteProduct]:
    """Yields every product both of whose factors come from DequantizeLinear, layout changes aside."""
    for node in model.graph:
        if node.op_type not in PRODUCTS or len(node.inputs) < 2:
            continue
        factors = [back(value) for value in node.inputs[:2]]
        if any(path.node is None or path.node.op_type != DQ for path in factors):
            continue
        try:
            stored = [(i, codes) for i, path in enumerate(factors) if (codes := _codes(path)) is not None]
            rows = as_rows(node, *stored[-1]) if stored else None
        except (ValueError, TypeError):
            continue  # sizes or attributes that do not fit: no runtime takes such a graph
        yield ByteProduct(node, rows)


def as_rows(node: ir.Node, index: int, factor: np.ndarray) -> np.ndarray:
    """Returns a product's stored factor as [N, P, C]: N output channels, P places of the window, C channels of a group.

    index: which input it is. A depthwise convolution sums over no channels, and over places in 32 bits, so every weight
    is a row of its own, [O·P, 1, 1].
    """
    if node.op_type == "Conv":
        outputs, channels, *window = factor.shape
        if channels == 1 and node.attributes.get_int("group", 1) == outputs > 1:
            return factor.reshape(-1, 1, 1)
        return factor.reshape(outputs, channels, int(np.prod(window))).transpose(0, 2, 1)
    if node.op_type == "ConvTranspose":
        groups = node.attributes.get_int("group", 1)
        channels, outputs, *window = factor.shape
        grouped = factor.reshape(groups, channels // groups, outputs, int(np.prod(window)))
        return grouped.transpose(0, 2, 3, 1).reshape(groups * outputs, -1, channels // groups)
    transposed = node.op_type == "Gemm" and node.attributes.get_int("transB" if index else "transA", 0) != 0
    inner_last = transposed if index else not transposed
    if factor.ndim == 1 or inner_last:
        return factor.reshape(-1, 1, factor.shape[-1])
    return np.swapaxes(factor, -1, -2).reshape(-1, 1, factor.shape[-2])


def _codes(path: Path) -> np.ndarray | None:
    """Returns the int8 values of a stored weight after its layout operators, None for an activation."""
    assert path.node is not None
    codes = _stored(path.node)
    for node in reversed(path.passed):
        if codes is None:
            return None
        codes = _moved(codes, node)
    return codes


def _stored(dequantize: ir.Node) -> np.ndarray | None:
    value = dequantize.inputs[0]
    codes = _constant(value)
    if codes is not None:
        return codes if codes.dtype != np.uint8 else (codes.astype(np.int16) - 128).astype(np.int8)
    quantize = producer(value)
    if quantize is None or quantize.op_type != Q:
        return None
    weight, scale = _constant(quantize.inputs[0]), _constant(quantize.inputs[1])
    if weight is None or scale is None:
        return None
    axis = quantize.attributes.get_int("axis", 1) if scale.ndim else None
    return Grid(scale.astype(np.float32), axis).quantize(weight)


def _constant(value: ir.Value | None) -> np.ndarray | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def _moved(array: np.ndarray, layout: ir.Node) -> np.ndarray | None:
    """Returns an array after a layout operator, None if the operator's output shape is unknown."""
    if layout.op_type == "Transpose":
        order: Any = layout.attributes.get_ints("perm", tuple(range(array.ndim))[::-1])
        return array.transpose(order)
    shape = layout.outputs[0].shape
    sizes = [] if shape is None else [d for d in shape if isinstance(d, int)]
    return array.reshape(sizes) if shape is not None and len(sizes) == len(shape) else None
