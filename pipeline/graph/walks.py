"""From a tensor back to the operator or the pair that it comes from."""

from __future__ import annotations

import onnx_ir as ir

from pipeline.graph.hoist import LAYOUT
from pipeline.graph.pairs import Pair, pair_of


def producer(value: ir.Value | None) -> ir.Node | None:
    """Returns the operator that makes a tensor, None for inputs, constants and nothing."""
    return value.producer() if value is not None else None


def above_layout(value: ir.Value | None) -> ir.Value | None:
    """Returns the tensor whose elements a tensor holds in another layout."""
    while (node := producer(value)) is not None and node.op_type in LAYOUT:
        value = node.inputs[0]
    return value


def pair_above(value: ir.Value | None) -> Pair | None:
    """Returns the pair that a tensor comes from, layout operators aside; None where it is not quantized."""
    dequantize = producer(above_layout(value))
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return None
    quantize = producer(dequantize.inputs[0])
    if quantize is None or quantize.op_type != "QuantizeLinear":
        return None  # stored int8
    return pair_of(quantize, dequantize)


def above_pair(value: ir.Value | None) -> ir.Value | None:
    """Returns the float tensor behind layout operators and at most one pair."""
    pair = pair_above(value)
    return above_layout(pair.source if pair is not None else value)
