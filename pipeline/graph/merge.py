"""One Q/DQ pair a tensor."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from pipeline.graph.pairs import QUANTIZER, Pair, find_pairs
from pipeline.graph.passes import graph_pass


def _equal_pairs(model: ir.Model) -> Iterator[tuple[Pair, Pair]]:
    """Yields (first, other) of every two pairs on the same tensor with the same scale."""
    first: dict[tuple[int, bytes, int | None], Pair] = {}
    for pair in list(find_pairs(model)):
        key = (id(pair.source), pair.scale.tobytes() + pair.zero_point.tobytes(), pair.axis)
        if first.setdefault(key, pair) is not pair:
            yield first[key], pair


@graph_pass(ensures=lambda model: (f"{b.names[0]} equals {a.names[0]}" for a, b in _equal_pairs(model)))
def merge_equal_pairs(model: ir.Model) -> bool:
    """Shares one pair between quantizers that read the same tensor with the same scale.

        x → Q₁ → DQ₁ → a            x → Q₁ → DQ₁ → a
        x → Q₂ → DQ₂ → b     ->                  → b

    Exact. Pairs on the same tensor with different scales stay apart.
    """
    merged = False
    for kept, pair in _equal_pairs(model):
        pair.output.replace_all_uses_with(kept.output)
        names = dict.fromkeys((*kept.quantize.metadata_props[QUANTIZER].split(), *pair.names))
        for node in (kept.quantize, kept.dequantize):
            node.metadata_props[QUANTIZER] = " ".join(names)
        merged = True
    return merged
