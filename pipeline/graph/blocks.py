"""Attention blocks: a softmax between two products of activations, and which of its five places are quantized.

query ─ DQ ─┐                               ┌─ DQ ─ value
            MatMul ─ (mask) ─ Softmax ─ DQ ─ MatMul ─ Q
key ─── DQ ─┘
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from pipeline.graph.nodes import DQ, Q, commutes, given, op, producer
from pipeline.graph.view import Dim, View, first_known

POINTS = ("query", "key", "softmax", "value", "output")  # to be quantized all together, or none
INT8_HEADS, INT8_LENGTH = (16, 32, 64), 512  # head sizes, and queries and keys at most, of TensorRT's int8 kernels
BEFORE_SOFTMAX = frozenset({"Add", "Sub", "Mul", "Div", "Where", "Cast", "Clip", "Tanh", "Max", "Min", Q, DQ})
AFTER_SOFTMAX = frozenset({"Cast", "Dropout", "Where", Q, DQ})
LONGEST_CHAIN = 8


@dataclass(frozen=True)
class Block:
    """One attention block of the graph."""

    scores: ir.Node  # query · key
    softmax: ir.Node
    context: ir.Node  # softmax · value
    between: tuple[ir.Node, ...]  # operators from the softmax back to the scores
    points: frozenset[str]  # which of POINTS are quantized
    head_size: Dim
    queries: Dim
    keys: Dim

    @property
    def quantized(self) -> bool:
        """Whether any product is meant to be int8; a Q after the second alone belongs to the next layer."""
        return bool(self.points - {"output"})

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(name for name in POINTS if name not in self.points)


def blocks(view: View) -> Iterator[Block]:
    """Yields the attention blocks in graph order."""
    for softmax in view.of("Softmax"):
        scores, between = _scores(view, softmax)
        context = _context(view, softmax)
        if scores is not None and context is not None:
            yield _block(view, scores, softmax, context, between)


def _block(view: View, scores: ir.Node, softmax: ir.Node, context: ir.Node, between: tuple[ir.Node, ...]) -> Block:
    query, key = (view.dims(value) for value in view.operands(scores))
    shares, values = view.dims(softmax.outputs[0]), view.dims(given(context, 1))
    factors = (*view.operands(scores), *view.operands(context))
    points = {name for name, value in zip(POINTS, factors, strict=False) if view.dequantizers(value)}
    if view.reaches(context.outputs[0], Q):
        points.add("output")
    return Block(
        scores,
        softmax,
        context,
        between,
        frozenset(points),
        head_size=first_known(_at(query, -1), _at(key, -2)),
        queries=first_known(_at(query, -2), _at(shares, -2)),
        keys=first_known(_at(key, -1), _at(shares, -1), _at(values, -2)),
    )


def mask_adds(view: View) -> frozenset[int]:
    """Returns the ids of the nodes between scores and softmax: sums there are masks, not residual adds."""
    return frozenset(id(node) for block in blocks(view) for node in block.between)


def _scores(view: View, softmax: ir.Node) -> tuple[ir.Node | None, tuple[ir.Node, ...]]:
    """Returns the nearest product of two activations before a softmax, None if there is none, and what is between."""
    frontier: list[tuple[ir.Value | None, tuple[ir.Node, ...]]] = [(given(softmax, 0), ())]
    for _ in range(LONGEST_CHAIN):
        wider: list[tuple[ir.Value | None, tuple[ir.Node, ...]]] = []
        for value, passed in frontier:
            node = producer(value)
            if node is None or view.is_constant(value):
                continue
            if op(node) == "MatMul" and not any(map(view.is_constant, node.inputs)):
                return node, passed
            if op(node) in BEFORE_SOFTMAX:
                wider += [(v, (*passed, node)) for v in node.inputs]
            elif commutes(node):
                wider.append((node.inputs[0], (*passed, node)))
        frontier = wider
    return None, ()


def _context(view: View, softmax: ir.Node) -> ir.Node | None:
    """Returns the product of a softmax, as first factor, and an activation, None if there is none."""
    values = [softmax.outputs[0]]
    for _ in range(LONGEST_CHAIN):
        wider: list[ir.Value] = []
        for use in (use for value in values for use in value.uses()):
            if op(use.node) == "MatMul" and use.idx == 0 and not view.is_constant(given(use.node, 1)):
                return use.node
            if op(use.node) in AFTER_SOFTMAX or (commutes(use.node) and use.idx == 0):
                wider += use.node.outputs
        values = wider
    return None


def _at(dims: tuple[Dim, ...] | None, index: int) -> Dim:
    return None if dims is None or len(dims) < -index else dims[index]
