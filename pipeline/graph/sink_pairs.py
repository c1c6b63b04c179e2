"""Q/DQ below the operators that only move data, directly before what computes with them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from pipeline.graph.build import constant, copy_of, described, initializer
from pipeline.graph.nodes import is_layout, numbers, producer
from pipeline.graph.pairs import Pair, find_pairs, insert_pair
from pipeline.graph.passes import graph_pass


def _layout_below(pair: Pair) -> list[ir.Node]:
    return [node for node in pair.output.consumers() if _can_rise(node, pair)]


def _above(model: ir.Model) -> Iterator[str]:
    return (f"{pair.name} is above {n.name}" for pair in find_pairs(model) for n in _layout_below(pair))


@graph_pass(ensures=_above)
def sink_below_layout(model: ir.Model) -> bool:
    """Moves pairs down through layout operators, one copy per reader; stored weights are transposed instead.

        p → Q → DQ → Transpose → MatMul                ->     p → Transpose → Q → DQ → MatMul
        W [N, K] → Q → DQ(axis 0) → Transpose → MatMul     ->     W [K, N] → Q → DQ(axis 1) → MatMul

    Exact. The opposite of `hoist_above_layout`: TensorRT's int8 attention wants both operands of a product straight
    from their DQ, and moves a Q back to the operator before a transpose by itself.
    """
    moved = False
    for pair in list(find_pairs(model)):
        queue = [pair]
        while queue:
            pair = queue.pop()
            for layout in _layout_below(pair):
                queue.append(_step_down(model, pair, layout))
                moved = True
    moved |= _join_transposes(model)
    if moved:
        common.RemoveUnusedNodesPass()(model)
        common.NameFixPass()(model)  # a pair with several readers now exists several times
    return moved


def _can_rise(node: ir.Node, pair: Pair) -> bool:
    """Returns whether a reader of a pair can stand above it."""
    if not is_layout(node) or node.outputs[0].is_graph_output():
        return False
    if node.inputs[0] is not pair.output:
        return False  # it reads the tensor as a shape
    return pair.axis is None or (node.op_type == "Transpose" and "perm" in node.attributes)


def _step_down(model: ir.Model, pair: Pair, layout: ir.Node) -> Pair:
    """Returns the pair after moving it below a layout operator that reads it."""
    order = layout.attributes.get_ints("perm") if layout.op_type == "Transpose" else None
    source = pair.source
    if order is not None and pair.stored:
        array = np.ascontiguousarray(constant(source).transpose(order))
        above = initializer(model, f"{source.name}.transposed", array)
    else:
        copy = described(copy_of(layout, [source, *layout.inputs[1:]]), layout.outputs[0].shape, str(layout.name))
        above = copy.outputs[0]
        above.name = layout.outputs[0].name
        model.graph.insert_before(layout, copy)
    new = insert_pair(model, pair.names, above, pair, before=layout)
    if pair.axis is not None and order is not None:
        for node in (new.quantize, new.dequantize):
            node.attributes["axis"] = ir.AttrInt64("axis", list(order).index(pair.axis))
    layout.outputs[0].replace_all_uses_with(new.output)
    model.graph.remove([layout], safe=True)
    return new


def _join_transposes(model: ir.Model) -> bool:
    """Joins two transposes in a row:  x → Transpose(p) → Transpose(q) → y   ->   x → Transpose(p[q]) → y."""
    joined = False
    for node in model.graph:
        above = producer(node.inputs[0]) if node.op_type == "Transpose" else None
        if above is None or above.op_type != "Transpose":
            continue
        first, second = (numbers(n, "perm") for n in (above, node))
        if first is None or second is None:
            continue  # without perm all axes are reversed, however many there are
        node.attributes["perm"] = ir.AttrInt64s("perm", [first[i] for i in second])
        node.replace_input_with(0, above.inputs[0])
        joined = True
    return joined
