"""Q/DQ above the operators that only move data."""

from __future__ import annotations

import onnx_ir as ir

from pipeline.graph.pairs import Pair, find_pairs, insert_pair

LAYOUT = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"})


def hoist_above_layout(model: ir.Model) -> bool:
    """Moves per-tensor pairs up to the operator that computes their tensor.

        p → Transpose → Q → DQ → op      ->      p → Q → DQ → Transpose → op

    Exact: one scale for the whole tensor commutes with any reordering of its elements. The engine then fuses the
    quantization with `p` and moves int8 instead of float. Where the layout operator has other readers they keep the
    float original, the quantized copy gets its own.
    """
    moved = False
    for pair in list(find_pairs(model)):
        while pair.axis is None and _is_layout(pair.source):
            pair = _step_up(model, pair)
            moved = True
    return moved


def _is_layout(value: ir.Value) -> bool:
    node = value.producer()
    return node is not None and node.op_type in LAYOUT and not value.is_graph_output()


def _step_up(model: ir.Model, pair: Pair) -> Pair:
    layout = pair.source.producer()
    assert layout is not None
    above = layout.inputs[0]
    assert above is not None
    new = insert_pair(model, pair.names, above, pair, before=layout)
    copy = ir.node(
        layout.op_type,
        [new.dequantize.outputs[0], *layout.inputs[1:]],
        attributes={a.name: a.value for a in layout.attributes.values()},
    )
    copy.outputs[0].shape, copy.outputs[0].dtype = pair.source.shape, ir.DataType.FLOAT
    model.graph.insert_before(pair.quantize, copy)
    old = pair.dequantize
    old.outputs[0].replace_all_uses_with(copy.outputs[0])
    model.graph.remove([old], safe=True)
    if not pair.quantize.outputs[0].uses():
        model.graph.remove([pair.quantize], safe=True)
    alone = not layout.outputs[0].uses()  # then the copy takes its place and its name
    copy.name = layout.name if alone else f"{layout.name}/{pair.names[0]}"
    if alone:
        model.graph.remove([layout], safe=True)
    copy.outputs[0].name = copy.name
    return new
