"""The products of a QDQ graph that run in int8, and their stored weights; read only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pipeline.graph.nodes import PRODUCTS, commutes, op
from pipeline.graph.stored_codes import codes_of
from pipeline.graph.walks import Values, dequantizers

# what OpenVINO moves DQ past, besides what Q and DQ commute with: it scales by the scale, shifts by the zero point, and
# a Relu or a mean keeps both
CARRIES = frozenset(
    {"AveragePool", "Cast", "Dropout", "Gather", "GlobalMaxPool", "Neg", "ReduceMax", "ReduceMin", "Relu"}
)
WITH_CONSTANT = frozenset({"Add", "Div", "Mul", "Sub"})


@dataclass(frozen=True)
class ByteProduct:
    """A product of two dequantized factors.

    codes: the stored factor, int8 [N, P, C] (see `as_rows`), None if neither is known before it runs: computed, or made
    of stored values by an operator that is not followed here.
    """

    node: ir.Node
    codes: np.ndarray | None


def byte_products(model: ir.Model) -> Iterator[ByteProduct]:
    """Yields every product both of whose factors come from DequantizeLinear, past what runtimes see through."""
    for node in model.graph:
        if node.op_type not in PRODUCTS or len(node.inputs) < 2:
            continue
        try:
            if not all(dequantizers(value, carried) for value in node.inputs[:2]):
                continue
            stored = [(i, codes) for i in (0, 1) if (codes := codes_of(node.inputs[i], carried)) is not None]
            rows = as_rows(node, *stored[-1]) if stored else None
        except (ValueError, TypeError):
            continue  # sizes or attributes that do not fit: no runtime takes such a graph
        yield ByteProduct(node, rows)


def carried(node: ir.Node) -> Values:
    """Returns the inputs of an operator whose DQ a runtime may move behind it, to a product that then runs in int8.

    Measured with OpenVINO 2026.4 and ONNX Runtime 1.31 on kernels that saturate. ONNX Runtime sees through layout,
    Slice and what does nothing; what is not here (Clip, Sigmoid, a sum of two quantized tensors …) kept the product
    float in both.
    """
    kind = op(node)
    if kind == "Concat":
        return node.inputs
    if kind in WITH_CONSTANT:
        computed = [x for x in node.inputs if x is not None and ir.convenience.get_const_tensor(x) is None]
        return computed if len(computed) == 1 else ()
    return node.inputs[:1] if commutes(node) or kind in CARRIES else ()


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
