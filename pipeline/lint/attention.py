"""Attention blocks: a softmax between two products of activations, and whether TensorRT can fuse one.

The five places of the pattern (POINTS):

    query ─ DQ ─┐                               ┌─ DQ ─ value
                MatMul ─ (mask) ─ Softmax ─ DQ ─ MatMul ─ Q
    key ─── DQ ─┘
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from pipeline.lint.findings import Attention, Dim, Target
from pipeline.lint.nodes import DQ, Q, commutes, given, op, producer
from pipeline.lint.view import HALF, View, first_known

POINTS = ("query", "key", "softmax", "value", "output")  # every one of them, or none
INT8_HEADS, INT8_LENGTH = (16, 32, 64), 512
HALF_HEADS, HALF_STEP = range(16, 257), 8
BEFORE_SOFTMAX = frozenset({"Add", "Sub", "Mul", "Div", "Where", "Cast", "Clip", "Tanh", "Max", "Min", Q, DQ})
AFTER_SOFTMAX = frozenset({"Cast", "Dropout", "Where", Q, DQ})
LONGEST_CHAIN = 8


@dataclass(frozen=True)
class Block:
    """One attention block of the graph."""

    scores: ir.Node  # query · key
    softmax: ir.Node
    context: ir.Node  # softmax · value
    between: tuple[ir.Node, ...]  # operators from the scores to the softmax
    points: frozenset[str]  # which of POINTS are quantized
    head_size: Dim
    queries: Dim
    keys: Dim

    @property
    def quantized(self) -> bool:
        """Whether any product is meant to be int8; a Q behind the second alone belongs to the layer after it."""
        return bool(self.points - {"output"})

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(name for name in POINTS if name not in self.points)


def blocks(view: View) -> Iterator[Block]:
    """Yields the attention blocks in graph order."""
    for softmax in view.of("Softmax"):
        scores, between = _scores(view, softmax)
        context = _context(view, softmax)
        if scores is None or context is None:
            continue
        query, key = (view.dims(value) for value in view.operands(scores))
        shares, values = view.dims(softmax.outputs[0]), view.dims(given(context, 1))
        points = {
            "query": bool(view.dequantizers(given(scores, 0))),
            "key": bool(view.dequantizers(given(scores, 1))),
            "softmax": bool(view.dequantizers(given(context, 0))),
            "value": bool(view.dequantizers(given(context, 1))),
            "output": view.reaches(context.outputs[0], Q),
        }
        yield Block(
            scores,
            softmax,
            context,
            between,
            frozenset(name for name, there in points.items() if there),
            head_size=first_known(_at(query, -1), _at(key, -2)),
            queries=first_known(_at(query, -2), _at(shares, -2)),
            keys=first_known(_at(key, -1), _at(shares, -1), _at(values, -2)),
        )


def mask_adds(view: View) -> frozenset[int]:
    """Returns the ids of what stands between scores and softmax: sums there are masks, no residuals."""
    return frozenset(id(node) for block in blocks(view) for node in block.between)


def _scores(view: View, softmax: ir.Node) -> tuple[ir.Node | None, tuple[ir.Node, ...]]:
    """Returns the nearest product of two activations before a softmax, and what is between."""
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
    """Returns the product of a softmax, as first factor, and an activation."""
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


def late_scaling(view: View, block: Block) -> ir.Node | None:
    """Returns the product or quotient by a constant between scores and softmax."""
    scaling = (n for n in block.between if op(n) in ("Mul", "Div") and any(map(view.is_constant, n.inputs)))
    return next(scaling, None)


def late_transpose(view: View, block: Block) -> ir.Node | None:
    """Returns the Transpose between the key's DQ and the scores."""
    return next((node for node in view.back(given(block.scores, 1)).passed if op(node) == "Transpose"), None)


def too_large(block: Block) -> list[str]:
    """Returns the sizes for which there is no fused int8 attention; what is not known is let pass."""
    faults = []
    if isinstance(block.head_size, int) and block.head_size not in INT8_HEADS:
        faults.append(f"head size {block.head_size} is not 16, 32 or 64")
    for name, length in (("S_q", block.queries), ("S_kv", block.keys)):
        if isinstance(length, int) and length > INT8_LENGTH:
            faults.append(f"{name} {length} is above {INT8_LENGTH}")
    return faults


def attention(view: View, targets: Sequence[Target]) -> Iterator[Attention]:
    """Yields the verdict on every attention block."""
    half = any(view.dtype(value) in HALF for value in view.values())
    for block in blocks(view):
        faults = _faults(view, block)
        if faults:
            verdict, why = "broken", "; ".join(faults)
        elif block.quantized:
            unknown = not (isinstance(block.queries, int) and isinstance(block.keys, int))
            verdict, why = "int8 fused", f"while S_q and S_kv are at most {INT8_LENGTH}" if unknown else ""
        else:
            verdict = "fp16 fused"
            why = "on 10 and 11 once the graph is fp16 (Q31)" if "10" in targets and not half else ""
        yield Attention(
            node=view.label(block.softmax),
            head_size=block.head_size,
            queries=block.queries,
            keys=block.keys,
            quantized=tuple(name for name in POINTS if name in block.points),
            verdict=verdict,  # type: ignore[arg-type]
            why=why,
        )


def _faults(view: View, block: Block) -> list[str]:
    """Returns what keeps TensorRT from one fused kernel."""
    if not block.quantized:
        size = block.head_size
        fits = not isinstance(size, int) or (size in HALF_HEADS and size % HALF_STEP == 0)
        return [] if fits else [f"head size {size} is no multiple of 8 from 16 to 256"]
    faults = [f"no Q/DQ at {', '.join(block.missing)}"] if block.missing else []
    faults += too_large(block)
    if any(op(node) == Q for node in block.between):
        faults.append("Q/DQ between the scores and the softmax")
    if late_scaling(view, block) is not None:
        faults.append("scaled behind the scores instead of before Q")
    if late_transpose(view, block) is not None:
        faults.append("Transpose between the key's DQ and the scores")
    return faults
