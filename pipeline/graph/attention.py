"""Attention in int8 only where TensorRT has one int8 kernel for the whole block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from pipeline.graph.hoist import LAYOUT
from pipeline.graph.pairs import Pair, drop_pairs
from pipeline.graph.walks import above_pair, pair_above, producer

HEADS = (16, 32, 64)  # head sizes of TensorRT's int8 fused attention
LONGEST = 512  # queries and keys there, at most
BOUNDS = "bounds"  # meta of the model, not written to files: {dynamic dimension: the largest it gets}
MASKING = frozenset({"Add", "Sub", "Where", *LAYOUT})  # may stand between the first product and the softmax
SCALING = frozenset({"Mul", "Div"})

Dim = ir.SymbolicDim | int | None


@dataclass(frozen=True)
class Block:
    """scores = q · kᵀ → between → softmax → context = probabilities · v."""

    scores: ir.Node
    between: tuple[ir.Node, ...]
    context: ir.Node

    @property
    def points(self) -> dict[str, Pair | None]:
        """The pair in front of each operand of the two products."""
        operands = (*self.scores.inputs, *self.context.inputs)
        return {n: pair_above(v) for n, v in zip(("queries", "keys", "probabilities", "values"), operands, strict=True)}

    @property
    def sizes(self) -> tuple[Dim, Dim, Dim]:
        """Head size, number of queries, number of keys."""
        queries, keys = self.scores.inputs  # [B, H, S, D], [B, H, D, T]
        return _dim(queries, -1), _dim(queries, -2), _dim(keys, -1)


def keep_fused_attention(model: ir.Model) -> bool:
    """Drops all pairs of an attention block that TensorRT would not fuse in int8.

        q → Q → DQ ↘
                    MatMul → Add(mask) → Softmax → Q → DQ → MatMul → (layout) → Q → DQ → …
        k → Q → DQ ↗                            v → Q → DQ ↗

    stays where it is whole like this, the head size is 16, 32 or 64, and queries and keys are 512 at most. Elsewhere
    both products become float, for which TensorRT has a fused kernel at any length: a block that is int8 in part is
    slower than either, because each of its Q and DQ is a kernel of its own. Ahead of merges, while every operand has
    its own pair. Dynamic lengths are judged by the bounds in `meta`. (NVIDIA: queries and keys before the first
    product, the result of the softmax, and that of the second product are the points to quantize.)
    """
    bounds: Mapping[str, int] = model.meta.get(BOUNDS, {})
    reasons: dict[str, str] = {}
    for block in find_blocks(model):
        pairs = [pair for pair in block.points.values() if pair is not None]
        why = unfused(block, bounds) if pairs else None
        if why is not None:
            reasons.update({name: f"no int8 fused attention: {why}" for pair in pairs for name in pair.names})
    return drop_pairs(model, reasons) if reasons else False


def unfused(block: Block, bounds: Mapping[str, int]) -> str | None:
    """Returns why TensorRT would not fuse a block in int8, None where it would."""
    missing = [name for name, pair in block.points.items() if pair is None]
    if not only_quantized(block.context.outputs[0]):
        missing.append("context")
    if missing:
        return f"float {' and '.join(missing)}"
    scaling = [node.op_type for node in block.between if node.op_type in SCALING]
    if scaling:
        return f"a {scaling[0]} between the first product and the softmax"
    head, queries, keys = (_largest(size, bounds) for size in block.sizes)
    if head not in HEADS:
        return f"head size {head or 'unknown'}, not one of {', '.join(map(str, HEADS))}"
    for length, name in ((queries, "queries"), (keys, "keys")):
        if length is None or length > LONGEST:
            return f"{length or 'an unknown number of'} {name}, {LONGEST} at most"
    return None


def find_blocks(model: ir.Model) -> Iterator[Block]:
    """Yields every attention block: a softmax between two products of activations."""
    for node in model.graph:
        softmax = producer(above_pair(node.inputs[0])) if node.op_type == "MatMul" else None
        if softmax is not None and softmax.op_type == "Softmax":
            scores, *between = _up_to_product(softmax.inputs[0]) or (None,)
            if scores is not None:
                yield Block(scores, tuple(between), node)


def _up_to_product(value: ir.Value | None) -> tuple[ir.Node, ...] | None:
    """Returns the product that a softmax reads and the operators in between; None where there is none."""
    node = producer(value)
    if node is None or node.op_type == "MatMul":
        return (node,) if node is not None else None
    if node.op_type in MASKING | SCALING:
        for operand in node.inputs:
            found = _up_to_product(operand)
            if found is not None:
                return (*found, node)
    return None


def only_quantized(value: ir.Value) -> bool:
    """Returns whether nothing but a Q reads a tensor, layout operators aside."""
    readers = value.consumers()
    return bool(readers) and all(
        node.op_type == "QuantizeLinear" or (node.op_type in LAYOUT and only_quantized(node.outputs[0]))
        for node in readers
    )


def _dim(value: ir.Value | None, axis: int) -> Dim:
    return value.shape[axis] if value is not None and value.shape is not None else None


def _largest(size: Dim, bounds: Mapping[str, int]) -> int | None:
    """Returns the largest value of a dimension, None where it is not known."""
    found = size.evaluate(bounds) if isinstance(size, ir.SymbolicDim) else size
    return found if isinstance(found, int) else None
