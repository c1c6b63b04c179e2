"""One node or value at a time: its type, inputs and attributes, and whether Q and DQ can move past it."""

from __future__ import annotations

import onnx_ir as ir

Q, DQ = "QuantizeLinear", "DequantizeLinear"
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
LAYOUT = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
MOVES = LAYOUT | {"MaxPool", "Slice", "Split", "Pad", "Expand", "DepthToSpace", "SpaceToDepth"}


def op(node: ir.Node) -> str:
    """Returns the operator's type, prefixed with any domain but ONNX's own; Q and DQ count as such in every domain."""
    plain = node.domain in ("", "ai.onnx") or node.op_type in (Q, DQ)
    return node.op_type if plain else f"{node.domain}::{node.op_type}"


def producer(value: ir.Value | None) -> ir.Node | None:
    """Returns the operator that computes a value, None for inputs, initializers and absent values."""
    return None if value is None else value.producer()


def maker(value: ir.Value | None) -> str:
    """Returns the type of the operator that computes a value, "" if there is none."""
    node = producer(value)
    return "" if node is None else op(node)


def given(node: ir.Node, index: int) -> ir.Value | None:
    """Returns an input, None for one that is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def number(node: ir.Node, name: str) -> int | None:
    """Returns an integer attribute, None if it is absent."""
    attribute = node.attributes.get(name)
    known = attribute is not None and attribute.type == ir.AttributeType.INT and not attribute.is_ref()
    return attribute.as_int() if attribute is not None and known else None


def numbers(node: ir.Node, name: str) -> tuple[int, ...] | None:
    """Returns an attribute that is a list of integers, None if it is absent."""
    attribute = node.attributes.get(name)
    known = attribute is not None and attribute.type == ir.AttributeType.INTS and not attribute.is_ref()
    return tuple(attribute.as_ints()) if attribute is not None and known else None


def word(node: ir.Node, name: str, default: str) -> str:
    """Returns a string attribute, `default` if it is absent."""
    attribute = node.attributes.get(name)
    known = attribute is not None and attribute.type == ir.AttributeType.STRING and not attribute.is_ref()
    return str(attribute.value) if attribute is not None and known else default


def commutes(node: ir.Node) -> bool:
    """Returns whether Q and DQ can move past this operator: it only moves elements, or picks the largest."""
    if op(node) == "Resize":
        return word(node, "mode", "nearest") == "nearest"
    return op(node) in MOVES


def is_layout(node: ir.Node) -> bool:
    """Returns whether the operator keeps every element and at most reorders them."""
    return op(node) in LAYOUT
