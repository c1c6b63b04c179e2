"""Q and DQ as pairs: together, once, and where something int8 reads them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import onnx_ir as ir

from pipeline.graph.nodes import DQ, PRODUCTS, Q, given, is_layout, op, producer
from pipeline.graph.view import View
from pipeline.lint.gelu import inside_gelu
from pipeline.lint.pairs import feeds_normalization_after_conv, only_float
from pipeline.lint.quantizers import same_parameters, same_scale
from pipeline.lint.rules import Hit, rule
from pipeline.lint.rules.compute import blockers
from pipeline.lint.rules.operators import is_integer_operator
from pipeline.lint.rules.residual import quantized_before_activation

AFTER_SCORES = frozenset({"Softmax", "LogSoftmax", "Sigmoid", "ArgMax", "Resize", "Cast", "Gather"})


@rule(
    "Q14",
    "E",
    "Something other than its DQ reads an int8 tensor.",
    "Put a DQ with the scale, zero point and axis of the Q right behind it, and layout operators behind the DQ.",
)
def int8_is_only_dequantized(view: View) -> Iterator[Hit]:
    """What a Q makes and what is stored as int8. Operators that compute on integers are Q12's."""
    for node in view.of(Q):
        if node.outputs[0].is_graph_output():
            yield Hit(node, "int8 output of the graph")
        for use in node.outputs[0].uses():
            if op(use.node) != DQ or use.idx != 0:
                if not is_integer_operator(use.node):
                    yield Hit(use.node, f"{op(use.node)} reads the int8 of {view.label(node)}")
            elif not same_parameters(view, node, use.node):
                yield Hit(use.node, f"other scale, zero point or axis than {view.label(node)}")
    for value in view.values():
        if view.tensor(value) is None or view.dtype(value) != ir.DataType.INT8:
            continue
        for use in value.uses():
            zero_point = op(use.node) in (Q, DQ) and use.idx == 2
            if not (zero_point or (op(use.node) == DQ and use.idx == 0) or is_integer_operator(use.node)):
                yield Hit(use.node, f"{op(use.node)} reads stored int8")


@rule(
    "Q26",
    "W",
    "Only operators that run in float read a Q/DQ pair.",
    "Remove the pair: it costs two kernels and accuracy, and nothing computes in int8 with it.",
)
def pairs_for_float_operators(view: View) -> Iterator[Hit]:
    """Not for sums, nor between a convolution and a normalization. Pairs that another rule names by a better word are
    left to it: before Mul or Add and a product (Q19), after a convolution (Q24), inside GELU (Q34).
    """
    others = {id(dq) for _, _, found in blockers(view) for dq in found}
    others |= {id(dq) for dq, _ in quantized_before_activation(view)}
    chains = {id(quantize) for quantize, _ in inside_gelu(view)}
    for node in view.of(DQ):
        before = producer(given(node, 0))
        if view.is_constant(node.outputs[0]) or id(node) in others or id(before) in chains:
            continue
        uses = view.reach(node.outputs[0]).uses
        wasted = [only_float(view, use) and not feeds_normalization_after_conv(view, node, use) for use in uses]
        if uses and all(wasted):
            yield Hit(node, ", ".join(sorted({op(use.node) for use in uses})))


@rule(
    "Q34",
    "W",
    "A Q/DQ pair is inside a GELU that is spelled out.",
    "Move the pair before or behind the whole chain, so that it is found and fused.",
)
def pairs_inside_gelu(view: View) -> Iterator[Hit]:
    for quantize, core in inside_gelu(view):
        yield Hit(quantize, f"around {view.label(core)}")


@rule(
    "Q35",
    "W",
    "A Q/DQ pair is useless or quantizes again.",
    "Keep one pair on a tensor, share it among its readers, and drop what nothing reads.",
)
def superfluous_pairs(view: View) -> Iterator[Hit]:
    """Nothing reads it; it follows a DQ of another scale (the same scale cancels); or it equals an earlier pair."""
    for node in view.of(DQ, Q):
        if not node.outputs[0].uses() and not node.outputs[0].is_graph_output():
            yield Hit(node, "nothing reads it")
    for node in view.of(Q):
        before = view.back(given(node, 0), is_layout).node
        if before is not None and op(before) == DQ and not same_scale(view, before, node):
            yield Hit(node, f"quantizes {view.label(before)} again with another scale")
    by_source: dict[int, list[ir.Node]] = defaultdict(list)
    for node in view.of(Q):
        earlier = by_source[id(given(node, 0))]
        twin = next((other for other in earlier if same_parameters(view, node, other)), None)
        if twin is None:
            earlier.append(node)
        else:
            yield Hit(node, f"equals {view.label(twin)}")


@rule(
    "Q36",
    "W",
    "A graph output, an embedding table or the final classifier is quantized.",
    "Leave these float: they cost accuracy and win no time.",
)
def pairs_at_the_ends(view: View) -> Iterator[Hit]:
    """An embedding is a Gather on a stored table; picking tokens of an activation is none. The final classifier is an
    int8 product with stored weights and nothing but a bias, layout, Resize or Softmax between it and an output.
    """
    for node in view.of(DQ):
        reach = view.reach(node.outputs[0])
        if any(id(value) in view.outputs for value in reach.outputs):
            yield Hit(node, "output of the graph")
        for use in reach.uses:
            if op(use.node) == "Gather" and use.slot == 0 and view.is_constant(node.outputs[0]):
                yield Hit(node, f"embedding {view.label(use.node)}")
    for node in view.of(*PRODUCTS):
        stored = any(view.is_constant(value) for value in view.operands(node))
        if stored and view.runs_int8(node) and _makes_output(view, node):
            yield Hit(node, "final classifier")


def _makes_output(view: View, node: ir.Node) -> bool:
    """Returns whether scores go from a product straight to an output of the graph."""
    stack, seen = [node.outputs[0]], {id(node.outputs[0])}
    while stack:
        reach = view.reach(stack.pop())
        if any(id(value) in view.outputs for value in reach.outputs):
            return True
        for use in reach.uses:
            bias = op(use.node) == "Add" and any(view.is_constant(value) for value in use.node.inputs)
            for output in use.node.outputs if bias or op(use.node) in AFTER_SCORES else ():
                if id(output) not in seen:
                    seen.add(id(output))
                    stack.append(output)
    return False
