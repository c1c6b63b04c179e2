"""Activations as uint8 with zero point 128."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pipeline.graph.hoist import LAYOUT
from pipeline.graph.pairs import find_pairs, initializer, remove_unused


def unsigned_activations(model: ir.Model) -> bool:
    """Shifts activation pairs from int8 around 0 to uint8 around 128, products of two activations excepted.

        Q(s, 0: int8) → DQ(s, 0: int8)     ->     Q(s, 128: uint8) → DQ(s, 128: uint8)

    Exactly equivalent: round(x/s) + 128 saturated to [0, 255] is round(x/s) saturated to [−128, 127], plus 128. CPU
    instructions (VNNI) multiply unsigned by signed bytes, so this is the form that runtimes have kernels for. Both
    operands of a product of two activations (attention) stay signed: a zero point there would need sums over the
    other operand at run time, for which OpenVINO falls back to float.
    """
    changed = False
    for pair in list(find_pairs(model)):
        if pair.axis is not None or pair.zero_point.dtype != np.int8 or pair.source.const_value is not None:
            continue
        if _feeds_activation_products(pair.dequantize.outputs[0]):
            continue
        shifted = (pair.zero_point.astype(np.int16) + 128).astype(np.uint8)
        value = initializer(model, f"{pair.names[0]}.zero_point_uint8", shifted)
        pair.quantize.replace_input_with(2, value)
        pair.dequantize.replace_input_with(2, value)
        pair.quantize.outputs[0].dtype = ir.DataType.UINT8
        changed = True
    remove_unused(model)
    return changed


def _feeds_activation_products(value: ir.Value) -> bool:
    """Returns whether every reader of a tensor, layout changes aside, is a MatMul of two activations."""
    uses = list(value.uses())
    return bool(uses) and all(
        _feeds_activation_products(use.node.outputs[0])
        if use.node.op_type in LAYOUT
        else use.node.op_type == "MatMul" and not any(_is_weight(v) for v in use.node.inputs)
        for use in uses
    )


def _is_weight(value: ir.Value | None) -> bool:
    """Returns whether a tensor is stored in the file, possibly behind a DequantizeLinear and layout changes."""
    while value is not None and value.const_value is None:
        node = value.producer()
        if node is None or node.op_type not in (*LAYOUT, "DequantizeLinear", "QuantizeLinear"):
            return False
        value = node.inputs[0]
    return value is not None
