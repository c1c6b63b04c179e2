"""Embedding tables that stay int8 until their rows are read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from pipeline.graph.build import constant, described, initializer
from pipeline.graph.nodes import DQ, given, number, producer
from pipeline.graph.passes import rewrite


def _table(gather: ir.Node) -> ir.Node | None:
    """Returns the DequantizeLinear of the stored int8 table whose rows a Gather reads, None otherwise."""
    if gather.op_type != "Gather" or number(gather, "axis") or gather.outputs[0].is_graph_output():
        return None
    node = producer(gather.inputs[0])
    if node is None or node.op_type != DQ:
        return None
    if any(v is None or v.const_value is None for v in node.inputs):
        return None  # an activation
    if node.inputs[0] is None or node.inputs[0].dtype != ir.DataType.INT8:
        return None
    if (zero_point := given(node, 2)) is not None and constant(zero_point).any():
        return None
    scale = constant(node.inputs[1])
    by_row = scale.ndim == 1 and number(node, "axis") == 0
    return node if by_row or scale.ndim == 0 else None


def _lookups(model: ir.Model) -> Iterator[tuple[ir.Node, ir.Node]]:
    """Yields (Gather, DQ) for every lookup in a table that is dequantized as a whole."""
    return ((node, table) for node in model.graph if (table := _table(node)) is not None)


@rewrite(_lookups)
def gather_int8_rows(model: ir.Model, gather: ir.Node, dequantize: ir.Node) -> None:
    """Moves the dequantization of a stored int8 table after the Gather that reads its rows.

        W int8 [V, H] → DQ(s [V], axis 0) → Gather(ids) → y

            ->     W int8 [V, H] → Gather(ids) → Cast → Mul → y        [*ids, H]
                        s [V, 1] → Gather(ids) ————————↗               [*ids, 1]

    Exact: the same int8 values times the same scales, but only for the rows that are read; ONNX Runtime would
    dequantize the whole table in every run. After `store_int8_weights`. Tables with a zero point other than 0 or
    another axis, and rows that are an output of the graph, stay as they are.
    """
    table, ids, old = dequantize.inputs[0], gather.inputs[1], gather.outputs[0]
    assert table is not None and ids is not None
    rows, *inner = constant(table).shape
    ones = [1] * len(inner)
    # a single scale, be it of the whole table or of its only row, becomes one per row
    scale = np.broadcast_to(constant(dequantize.inputs[1]), rows).reshape(rows, *ones)
    scales = initializer(model, f"{str(table.name).removesuffix('_int8')}_scale", np.ascontiguousarray(scale))

    def add(op: str, inputs: list[ir.Value], kind: ir.DataType, name: str, **attributes: int) -> ir.Value:
        node = described(ir.node(op, inputs, attributes=attributes), old.shape, f"{gather.name}/{name}", kind)
        model.graph.insert_before(gather, node)
        return node.outputs[0]

    values = add("Gather", [table, ids], ir.DataType.INT8, "int8", axis=0)
    values = add("Cast", [values], ir.DataType.FLOAT, "Cast", to=ir.DataType.FLOAT.value)
    steps = add("Gather", [scales, ids], ir.DataType.FLOAT, "scale", axis=0)
    if old.shape is not None:
        steps.shape = ir.Shape([*old.shape[: len(old.shape) - len(inner)], *ones])
    old.replace_all_uses_with(add("Mul", [values, steps], ir.DataType.FLOAT, "Mul"))
    model.graph.remove([gather], safe=True)
