"""Along a tensor through the operators that only move data: back to what it comes from, and on to what reads it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from pipeline.graph.nodes import DQ, LAYOUT, Q, commutes, is_layout, op, producer
from pipeline.graph.pairs import Pair, pair_of


@dataclass(frozen=True)
class Path:
    """A walk from a reader back towards the inputs."""

    passed: tuple[ir.Node, ...]  # the nearest to the reader first
    end: ir.Value | None

    @property
    def node(self) -> ir.Node | None:
        """The operator at which the walk stopped, None for an input, an initializer or an absent value."""
        return producer(self.end)


def back(value: ir.Value | None, through: Callable[[ir.Node], bool] = is_layout) -> Path:
    """Returns the walk from `value` back along first inputs, as long as `through` allows the operator."""
    passed: list[ir.Node] = []
    while (node := producer(value)) is not None and node.inputs and through(node):
        passed.append(node)
        value = node.inputs[0]
    return Path(tuple(passed), value)


Values = Sequence[ir.Value | None]


def moved(node: ir.Node) -> Values:
    """Returns the inputs whose elements an operator moves, or joins, without another change; none of other operators.

    Q and DQ can move past it.
    """
    if op(node) == "Concat":
        return node.inputs
    return node.inputs[:1] if commutes(node) else ()


def dequantizers(value: ir.Value | None, through: Callable[[ir.Node], Values] = moved) -> tuple[ir.Node, ...]:
    """Returns the DQ nodes that a value comes from: several for a Concat of quantized parts, none for a float.

    through: gives the inputs along which the walk goes on, none where the operator ends it.
    """
    node = producer(value)
    if node is None or op(node) == DQ:
        return () if node is None else (node,)
    parts = [dequantizers(part, through) for part in through(node)]
    return tuple(dq for part in parts for dq in part) if all(parts) else ()


def pair_above(value: ir.Value | None) -> Pair | None:
    """Returns the pair that a tensor comes from, layout operators aside; None if it is not quantized."""
    dequantize = back(value).node
    if dequantize is None or dequantize.op_type != DQ:
        return None
    quantize = producer(dequantize.inputs[0])
    if quantize is None or quantize.op_type != Q:
        return None  # stored int8
    return pair_of(quantize, dequantize)


def readers(value: ir.Value) -> Iterator[ir.Node]:
    """Yields the operators that read a tensor; instead of a layout operator, its readers."""
    for node in value.consumers():
        if is_layout(node):
            yield from readers(node.outputs[0])
        else:
            yield node


def only_read_by(
    value: ir.Value, accepts: Callable[[ir.Node], bool], through: Collection[str] = LAYOUT, *, empty: bool = False
) -> bool:
    """Returns whether `accepts` holds for every reader of a tensor, directly or past the operators in `through`.

    Anybody may read an output of the graph. empty: the answer for a tensor that nothing reads.
    """
    if value.is_graph_output():
        return False
    nodes = value.consumers()
    if not nodes:
        return empty
    return all(
        accepts(n) or (n.op_type in through and only_read_by(n.outputs[0], accepts, through, empty=empty))
        for n in nodes
    )
