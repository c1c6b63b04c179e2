"""One Q/DQ pair per tensor."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from pipeline.graph.pairs import QUANTIZER, Pair, find_pairs
from pipeline.graph.passes import rewrite


def _equal_pairs(model: ir.Model) -> Iterator[tuple[Pair, Pair]]:
    """Yields (first, other) for every further pair on the same tensor with the same scale."""
    first: dict[tuple[int, bytes, int | None], Pair] = {}
    for pair in list(find_pairs(model)):
        key = (id(pair.source), pair.scale.tobytes() + pair.zero_point.tobytes(), pair.axis)
        if first.setdefault(key, pair) is not pair:
            yield first[key], pair


@rewrite(_equal_pairs)
def merge_equal_pairs(model: ir.Model, kept: Pair, other: Pair) -> None:
    """Shares one pair between quantizers that read the same tensor with the same scale.

        x → Q₁ → DQ₁ → a            x → Q₁ → DQ₁ → a
        x → Q₂ → DQ₂ → b     ->                  → b

    Exact. Pairs on the same tensor with different scales stay apart.
    """
    other.output.replace_all_uses_with(kept.output)
    names = dict.fromkeys((*kept.quantize.metadata_props[QUANTIZER].split(), *other.names))
    for node in (kept.quantize, kept.dequantize):
        node.metadata_props[QUANTIZER] = " ".join(names)
