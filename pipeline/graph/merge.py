"""One Q/DQ pair a tensor."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pipeline.graph.pairs import QUANTIZER, Pair, find_pairs, remove_unused


def merge_equal_pairs(model: ir.Model) -> bool:
    """Shares one pair between quantizers that read the same tensor with the same scale.

        x → Q₁ → DQ₁ → a            x → Q₁ → DQ₁ → a
        x → Q₂ → DQ₂ → b     ->                  → b

    Exact. Pairs on the same tensor with different scales stay apart.
    """
    first: dict[tuple[int, bytes, int | None], Pair] = {}
    merged = False
    for pair in list(find_pairs(model)):
        key = (id(pair.source), np.asarray(pair.scale).tobytes() + pair.zero_point.tobytes(), pair.axis)
        kept = first.setdefault(key, pair)
        if kept is pair:
            continue
        pair.dequantize.outputs[0].replace_all_uses_with(kept.dequantize.outputs[0])
        names = dict.fromkeys((*kept.quantize.metadata_props[QUANTIZER].split(), *pair.names))
        for node in (kept.quantize, kept.dequantize):
            node.metadata_props[QUANTIZER] = " ".join(names)
        merged = True
    remove_unused(model)
    return merged
