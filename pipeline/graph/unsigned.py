"""Activations as uint8 with zero point 128."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from pipeline.graph.build import initializer
from pipeline.graph.nodes import DQ, LAYOUT, Q
from pipeline.graph.pairs import Pair, find_pairs
from pipeline.graph.passes import rewrite
from pipeline.graph.walks import back, only_read_by


def _signed(model: ir.Model) -> Iterator[tuple[Pair]]:
    """Yields the int8 pairs of activations, except those that only feed products of two activations."""
    for pair in list(find_pairs(model)):
        if pair.axis is not None or pair.stored or pair.zero_point.dtype != np.int8:
            continue  # a weight, or unsigned already
        if not only_read_by(pair.output, _multiplies_activations):
            yield (pair,)


@rewrite(_signed)
def unsigned_activations(model: ir.Model, pair: Pair) -> None:
    """Shifts activation pairs from int8 around 0 to uint8 around 128, products of two activations excepted.

        Q(s, 0: int8) → DQ(s, 0: int8)     ->     Q(s, 128: uint8) → DQ(s, 128: uint8)

    Exactly equivalent: round(x/s) + 128 saturated to [0, 255] is round(x/s) saturated to [−128, 127], plus 128. CPU
    instructions (VNNI) multiply unsigned by signed bytes, so runtimes have kernels for this form. Both
    operands of a product of two activations (attention) stay signed: a zero point there would need sums over the
    other operand at run time, for which OpenVINO falls back to float.
    """
    shifted = (pair.zero_point.astype(np.int16) + 128).astype(np.uint8)
    pair.set_inputs(zero_point=initializer(model, f"{pair.name}.zero_point_uint8", shifted))
    pair.quantize.outputs[0].dtype = ir.DataType.UINT8


def _multiplies_activations(node: ir.Node) -> bool:
    return node.op_type == "MatMul" and not any(_is_weight(value) for value in node.inputs)


def _is_weight(value: ir.Value | None) -> bool:
    """Returns whether a tensor is stored in the file, possibly behind a DequantizeLinear and layout changes."""
    end = back(value, lambda node: node.op_type in (*LAYOUT, DQ, Q)).end
    return end is not None and end.const_value is not None
