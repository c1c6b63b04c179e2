"""Embedding tables that stay int8 until their rows are read."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pipeline.graph.pairs import constant, initializer, remove_unused


def gather_int8_rows(model: ir.Model) -> bool:
    """Moves the dequantization of a stored int8 table behind the Gather that reads its rows.

        W int8 [V, H] → DQ(s [V], axis 0) → Gather(ids) → y

            ->     W int8 [V, H] → Gather(ids) → Cast → Mul → y        [*ids, H]
                        s [V, 1] → Gather(ids) ————————↗               [*ids, 1]

    Exact: the same int8 values times the same scales, for the rows that are read: ONNX Runtime would dequantize the
    whole table at every run. Behind `store_int8_weights`. Left as they are: zero points other than 0, other axes, rows
    that are an output of the graph.
    """
    found = [(node, dequantize) for node in model.graph if (dequantize := _table(node)) is not None]
    for gather, dequantize in found:
        _move(model, gather, dequantize)
    remove_unused(model)
    left = [node.name for node in model.graph if _table(node) is not None]
    assert not left, f"{left[0]} still reads a table that is dequantized whole"
    return bool(found)


def _table(gather: ir.Node) -> ir.Node | None:
    """Returns the DequantizeLinear of the stored int8 table whose rows a Gather reads, None for any other node."""
    if gather.op_type != "Gather" or gather.attributes.get_int("axis", 0) != 0 or gather.outputs[0].is_graph_output():
        return None
    node = gather.inputs[0].producer() if gather.inputs[0] is not None else None
    if node is None or node.op_type != "DequantizeLinear":
        return None
    if any(v is None or v.const_value is None for v in node.inputs):
        return None  # an activation
    if node.inputs[0] is None or node.inputs[0].dtype != ir.DataType.INT8:
        return None
    if len(node.inputs) > 2 and constant(node.inputs[2]).any():
        return None
    scale = constant(node.inputs[1])
    by_row = scale.ndim == 1 and node.attributes.get_int("axis", 1) == 0
    return node if by_row or scale.ndim == 0 else None


def _move(model: ir.Model, gather: ir.Node, dequantize: ir.Node) -> None:
    table, ids, old = dequantize.inputs[0], gather.inputs[1], gather.outputs[0]
    assert table is not None and table.const_value is not None and ids is not None
    rows, *inner = table.const_value.numpy().shape
    ones = [1] * len(inner)
    # one scale for the whole table, which a table of one row has, is one for each of its rows
    scale = np.broadcast_to(constant(dequantize.inputs[1]), rows).reshape(rows, *ones)
    scales = initializer(model, f"{str(table.name).removesuffix('_int8')}_scale", np.ascontiguousarray(scale))

    def add(op: str, inputs: list[ir.Value], kind: ir.DataType, name: str, **attributes: int) -> ir.Value:
        node = ir.node(op, inputs, attributes=attributes, name=f"{gather.name}/{name}")
        model.graph.insert_before(gather, node)
        output = node.outputs[0]
        output.name, output.dtype, output.shape = node.name, kind, old.shape
        return output

    values = add("Gather", [table, ids], ir.DataType.INT8, "int8", axis=0)
    values = add("Cast", [values], ir.DataType.FLOAT, "Cast", to=ir.DataType.FLOAT.value)
    steps = add("Gather", [scales, ids], ir.DataType.FLOAT, "scale", axis=0)
    if old.shape is not None:
        steps.shape = ir.Shape([*old.shape[: len(old.shape) - len(inner)], *ones])
    old.replace_all_uses_with(add("Mul", [values, steps], ir.DataType.FLOAT, "Mul"))
    model.graph.remove([gather], safe=True)
