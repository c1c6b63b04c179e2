"""Q/DQ above the operators that only move data."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from pipeline.graph.build import copy_of, described
from pipeline.graph.nodes import is_layout
from pipeline.graph.pairs import Pair, find_pairs, insert_pair
from pipeline.graph.passes import graph_pass


def _layout_above(pair: Pair) -> ir.Node | None:
    """Returns the layout operator that a pair can pass."""
    node = pair.source.producer()
    if pair.axis is not None:
        return None  # the axis of the channels would move
    if node is None or not is_layout(node):
        return None
    return None if pair.source.is_graph_output() else node


def _below(model: ir.Model) -> Iterator[str]:
    return (f"{pair.names[0]} is below a layout operator" for pair in find_pairs(model) if _layout_above(pair))


@graph_pass(ensures=_below)
def hoist_above_layout(model: ir.Model) -> bool:
    """Moves per-tensor pairs up to the operator that computes their tensor.

        p → Transpose → Q → DQ → op      ->      p → Q → DQ → Transpose → op

    Exact: one scale for the whole tensor commutes with any reordering of its elements. The engine then fuses the
    quantization with `p` and moves int8 instead of float. Where the layout operator has other readers they keep the
    float original, the quantized copy gets its own.
    """
    moved = False
    for pair in list(find_pairs(model)):
        while (layout := _layout_above(pair)) is not None:
            pair = _step_up(model, pair, layout)
            moved = True
    return moved


def _step_up(model: ir.Model, pair: Pair, layout: ir.Node) -> Pair:
    above, shape = layout.inputs[0], pair.source.shape
    assert above is not None
    new = insert_pair(model, pair.names, above, pair, before=layout)
    copy = copy_of(layout, [new.output, *layout.inputs[1:]])
    model.graph.insert_before(pair.quantize, copy)
    pair.output.replace_all_uses_with(copy.outputs[0])
    model.graph.remove([pair.dequantize], safe=True)
    if not pair.quantize.outputs[0].uses():
        model.graph.remove([pair.quantize], safe=True)
    alone = not layout.outputs[0].uses()  # then the copy takes its place and its name
    described(copy, shape, str(layout.name) if alone else f"{layout.name}/{pair.names[0]}")
    if alone:
        model.graph.remove([layout], safe=True)
    return new
