"""One scale for what is joined, and one for what is shared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from pipeline.graph.nodes import Q, given, is_layout
from pipeline.graph.view import View
from pipeline.lint.quantizers import parameters
from pipeline.lint.rules import Hit, rule


@rule(
    "Q27",
    "W",
    "A Concat joins quantized and float parts, or parts of unequal scale.",
    "Quantize all parts with one scale, or none and its result once.",
)
def mixed_concat(view: View) -> Iterator[Hit]:
    for node in view.of("Concat"):
        sources = [view.dequantizers(value) for value in node.inputs]
        quantized = sum(map(bool, sources))
        if 0 < quantized < len(sources):
            yield Hit(node, f"{quantized} of {len(sources)} parts quantized")
        elif quantized:
            scales = {_scale(view, dq) for source in sources for dq in source}
            if len(scales) > 1:
                yield Hit(node, f"{len(scales)} scales: {_listed(scales)}")


@rule(
    "Q28",
    "W",
    "One tensor is quantized with several scales.",
    "Share one Q/DQ pair among its readers: sibling layers, as those of query, key and value, then run as one.",
)
def several_scales(view: View) -> Iterator[Hit]:
    """Also through operators that only reorder elements. Weights are not meant."""
    by_tensor: dict[int, list[ir.Node]] = defaultdict(list)
    for node in view.of(Q):
        if not view.is_constant(given(node, 0)):
            by_tensor[id(view.back(given(node, 0), is_layout).end)].append(node)
    for group in by_tensor.values():
        scales = {_scale(view, node) for node in group}
        if len(scales) > 1:
            end = view.back(given(group[0], 0), is_layout).end
            name = "a tensor" if end is None else end.name
            for node in group:
                yield Hit(node, f"{name} with {_listed([_scale(view, node)])}")


def _scale(view: View, node: ir.Node) -> tuple[float, ...]:
    scale = parameters(view, node).scale
    return () if scale is None else tuple(np.asarray(scale, np.float32).reshape(-1).tolist())


def _listed(scales: set[tuple[float, ...]] | list[tuple[float, ...]]) -> str:
    return ", ".join(f"{s[0]:.4g}" if len(s) == 1 else f"{len(s)} scales" for s in sorted(scales))
