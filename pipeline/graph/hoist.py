"""Q/DQ above the operators that only move data."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from pipeline.graph.build import copy_of, described
from pipeline.graph.nodes import is_layout
from pipeline.graph.pairs import Pair, find_pairs, insert_pair
from pipeline.graph.passes import rewrite


def _below_layout(model: ir.Model) -> Iterator[tuple[Pair, ir.Node]]:
    """Yields (pair, the layout operator above it)."""
    for pair in list(find_pairs(model)):
        node = pair.source.producer()
        if pair.axis is not None:
            continue  # the axis of the channels would move
        if node is not None and is_layout(node) and not pair.source.is_graph_output():
            yield pair, node


@rewrite(_below_layout)
def hoist_above_layout(model: ir.Model, pair: Pair, layout: ir.Node) -> None:
    """Moves per-tensor pairs up to the operator that computes their tensor.

        p → Transpose → Q → DQ → op      ->      p → Q → DQ → Transpose → op

    Exact: one scale for the whole tensor commutes with any reordering of its elements. The engine then fuses the
    quantization with `p` and moves int8 instead of float. If the layout operator has other readers, they keep the float
    original and the pair gets a copy.
    """
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
    described(copy, shape, str(layout.name) if alone else f"{layout.name}/{pair.name}")
    if alone:
        model.graph.remove([layout], safe=True)
