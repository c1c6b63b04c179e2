"""Element types: integers, half precision and the casts around Q/DQ."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from pipeline.graph.nodes import DQ, PRODUCTS, Q, given, number, op, producer
from pipeline.graph.view import HALF, View
from pipeline.lint.rules import Hit, rule

INTEGERS = frozenset({"INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64", "BOOL"})
FLOATS = HALF | {ir.DataType.FLOAT}


@rule(
    "Q17",
    "E",
    "A Q or DQ is on integers, or has an attribute that the parser does not know.",
    "Quantize float tensors only; leave out block_size and output_dtype for TensorRT 8.6.",
)
def integers_and_attributes(view: View) -> Iterator[Hit]:
    """Attributes that are written but hold 0, their default, are let pass."""
    for node in view.of(Q):
        dtype = view.dtype(given(node, 0))
        if dtype is not None and dtype.name in INTEGERS:
            yield Hit(node, f"quantizes {dtype.name.lower()}")
    for node in view.of(Q, DQ):
        for name in ("block_size", "output_dtype"):
            if number(node, name):
                yield Hit(node, f"{name} {number(node, name)}", targets=("8.6",))


@rule(
    "Q31",
    {"10": "W"},
    "Nothing in the graph is in half precision.",
    "Convert the float remainder and the scales to float16: TensorRT 11 runs every operator in the type it has.",
)
def no_half_precision(view: View) -> Iterator[Hit]:
    """Only where there are products, quantized or not: a graph without them gains nothing."""
    types = {view.dtype(value) for value in view.values()}
    if not types & HALF and ir.DataType.FLOAT in types and view.of(*PRODUCTS):
        yield Hit(None, "float32 throughout")


@rule(
    "Q32",
    {"10": "W"},
    "A Cast stands beside Q or DQ.",
    "Fold it: give Q and DQ a scale of the type that the neighbour computes in.",
)
def casts_beside_pairs(view: View) -> Iterator[Hit]:
    """Between float types only. TensorRT 8.6 chooses types itself; there a Cast before a product is Q19's."""
    for node in view.of("Cast"):
        source, target = view.dtype(given(node, 0)), number(node, "to")
        between_floats = target in {int(t) for t in FLOATS} and (source is None or source in FLOATS)
        if not between_floats:
            continue
        before = producer(view.back(given(node, 0)).end)
        if before is not None and op(before) == DQ:
            yield Hit(node, f"behind {view.label(before)}")
        for use in view.reach(node.outputs[0]).uses:
            if op(use.node) == Q and use.slot == 0:
                yield Hit(node, f"before {view.label(use.node)}")


@rule(
    "Q38",
    {"8.6": "I"},
    "An input of the graph is int64.",
    "Feed int32 to an engine of TensorRT 8.6: it makes these inputs int32; 9 and later keep int64.",
)
def int64_inputs(view: View) -> Iterator[Hit]:
    """Of initializers nothing is said: shapes and axes are int64 in every ONNX file and are narrowed without harm."""
    for value in view.model.graph.inputs:
        if view.dtype(value) == ir.DataType.INT64 and value.const_value is None:
            for node in dict.fromkeys(use.node for use in value.uses()):
                yield Hit(node, f"input {value.name}")
