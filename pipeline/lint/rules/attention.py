"""Attention: quantized as a whole or not at all, within the sizes that have a fused kernel."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.graph.blocks import POINTS, blocks
from pipeline.graph.nodes import Q, op
from pipeline.graph.view import View
from pipeline.lint.attention import late_scaling, late_transpose, too_large
from pipeline.lint.rules import Hit, rule


@rule(
    "Q20",
    "W",
    "Attention is quantized in part.",
    "Quantize all five places (query, key, softmax, value, output) and nothing between scores and softmax, or none.",
)
def partly_quantized(view: View) -> Iterator[Hit]:
    """A Q behind the second product alone belongs to the layer that follows: that attention is float."""
    for block in blocks(view):
        if block.quantized and block.missing:
            there = ", ".join(name for name in POINTS if name in block.points)
            yield Hit(block.softmax, f"has {there}; lacks {', '.join(block.missing)}")
        for node in block.between:
            if op(node) == Q:
                yield Hit(node, f"between the scores and {view.label(block.softmax)}")


@rule(
    "Q21",
    "W",
    "Attention is quantized at a size that has no fused int8 kernel.",
    "Leave this attention float: fused int8 needs head size 16, 32 or 64 and both lengths at most 512.",
)
def sizes_without_kernel(view: View) -> Iterator[Hit]:
    """Where one of its products has two quantized factors. Lengths that are not known are let pass; the table of
    attention blocks names the condition.
    """
    for block in blocks(view):
        if view.runs_int8(block.scores) or view.runs_int8(block.context):
            for fault in too_large(block):
                yield Hit(block.softmax, fault)


@rule(
    "Q22",
    "W",
    "Quantized attention is scaled behind the scores, or its key transposed behind DQ.",
    "Scale the query and transpose the key before their Q: DQ has to feed the product itself.",
)
def scaling_and_transpose(view: View) -> Iterator[Hit]:
    """Float attention is fused with its scaling anywhere, so only where query or key is quantized. Of the key alone:
    splitting heads of query and value behind DQ is plain layout, which DQ moves past.
    """
    for block in blocks(view):
        if not block.points & {"query", "key"}:
            continue
        scaling = late_scaling(view, block)
        if scaling is not None:
            yield Hit(scaling, "scales the scores")
        transpose = late_transpose(view, block)
        if "key" in block.points and transpose is not None:
            yield Hit(transpose, "between the key's DQ and the scores")
