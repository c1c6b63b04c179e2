"""Graph edits on ONNX, one small pass per file; each says `before -> after` and checks what it promises (see `passes`).

Data flow of a quantized graph:

    export     tidy             named nodes, folded shapes, every quantizer one Q/DQ pair with its own scale
    lower      keep_pairs       the placement: pairs that are off disappear
               set_scales       amax of the chosen method -> scale
               dialect passes   in the backend's order, from `BY_NAME`

Passes build on nodes (one operator), build (new ones), pairs, walks (past layout operators), view (a whole graph, read
only) and blocks (attention), and so does the linter.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from typing import Any

import onnx_ir as ir

from pipeline.graph.attention import BOUNDS
from pipeline.graph.pairs import Pair, dropped, find_pairs, keep_pairs, scales_of, set_scales
from pipeline.graph.passes import GraphPass

__all__ = [
    "BOUNDS",
    "BY_NAME",
    "GraphPass",
    "Pair",
    "apply",
    "dropped",
    "find_pairs",
    "keep_pairs",
    "scales_of",
    "set_scales",
]


def _discovered() -> dict[str, GraphPass[Any]]:
    """Returns the passes of all files in this folder."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    passes = {entry.name: entry for m in modules for entry in vars(m).values() if isinstance(entry, GraphPass)}
    return dict(sorted(passes.items()))


BY_NAME = _discovered()


def apply(model: ir.Model, names: Iterable[str]) -> tuple[str, ...]:
    """Returns which of some passes, applied in this order, changed the graph."""
    return tuple(name for name in names if BY_NAME[name](model).modified)
