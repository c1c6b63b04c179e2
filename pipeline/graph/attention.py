"""Attention in int8 only if TensorRT has one int8 kernel for the whole block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from pipeline.graph.blocks import INT8_HEADS, INT8_LENGTH, Block, blocks
from pipeline.graph.nodes import LAYOUT, Q, op
from pipeline.graph.pairs import drop_pairs
from pipeline.graph.passes import graph_pass
from pipeline.graph.view import Dim, View
from pipeline.graph.walks import only_read_by, pair_above

BOUNDS = "bounds"  # meta of the model, not written to files: {dynamic dimension: its largest value}
MASKING = frozenset({"Add", "Sub", "Where", *LAYOUT})  # may stand between the first product and the softmax
SCALING = frozenset({"Mul", "Div"})
PLACES = ("queries", "keys", "probabilities", "values")  # operands of the two products


def _unfused(model: ir.Model) -> Iterator[tuple[str, str]]:
    """Yields (quantizer, why TensorRT would not fuse its block in int8)."""
    bounds: Mapping[str, int] = model.meta.get(BOUNDS, {})
    for block in blocks(View(model)):
        pairs = [pair_above(value) for value in (*block.scores.inputs, *block.context.inputs)]
        missing = [name for name, pair in zip(PLACES, pairs, strict=True) if pair is None]
        why = unfused(block, missing, bounds) if len(missing) < len(PLACES) else None
        if why is not None:
            yield from ((name, f"no int8 fused attention: {why}") for pair in pairs if pair for name in pair.names)


@graph_pass(ensures=lambda model: (f"{name} is still there: {why}" for name, why in _unfused(model)), requantizes=True)
def keep_fused_attention(model: ir.Model) -> bool:
    """Drops all pairs of an attention block that TensorRT would not fuse in int8.

        q → Q → DQ ↘                                                       q ↘
                    MatMul → Add(mask) → Softmax → Q → DQ → MatMul    ->      MatMul → Add(mask) → Softmax → MatMul
        k → Q → DQ ↗                            v → Q → DQ ↗               k ↗                            v ↗

    stays if it is complete, a Q follows it, the head size is 16, 32 or 64, and queries and keys are at most 512.
    Otherwise both products become float, for which TensorRT has a fused kernel at any length: a block that is partly
    int8 is slower than either, because each of its Q and DQ is a kernel of its own. Before merges, while every operand
    has its own pair. Dynamic lengths are judged by the bounds in `meta`. (NVIDIA: queries and keys before the first
    product, the result of the softmax, and that of the second product are the points to quantize.)
    """
    reasons = dict(_unfused(model))
    return drop_pairs(model, reasons) if reasons else False


def unfused(block: Block, missing: list[str], bounds: Mapping[str, int]) -> str | None:
    """Returns why TensorRT would not fuse a block in int8, None where it would. missing: operands without a pair."""
    between = [op(node) for node in reversed(block.between)]
    if not {*between} <= MASKING | SCALING:
        return None  # nothing is known about such a block
    if not only_read_by(block.context.outputs[0], lambda node: node.op_type == Q):
        missing = [*missing, "context"]
    if missing:
        return f"float {' and '.join(missing)}"
    scaling = [name for name in between if name in SCALING]
    if scaling:
        return f"a {scaling[0]} between the first product and the softmax"
    head, queries, keys = (_largest(size, bounds) for size in (block.head_size, block.queries, block.keys))
    if head not in INT8_HEADS:
        return f"head size {head or 'unknown'}, not one of {', '.join(map(str, INT8_HEADS))}"
    for length, name in ((queries, "queries"), (keys, "keys")):
        if length is None or length > INT8_LENGTH:
            return f"{length or 'an unknown number of'} {name}, {INT8_LENGTH} at most"
    return None


def _largest(size: Dim, bounds: Mapping[str, int]) -> int | None:
    """Returns the largest value of a dimension, None if it is unknown."""
    largest = ir.SymbolicDim(size).evaluate(bounds) if isinstance(size, str) else size
    return largest if isinstance(largest, int) else None
