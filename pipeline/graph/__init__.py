"""Graph edits on ONNX, one small pass a file; each says `before -> after` and checks what it promises.

Data flow of a quantized graph:

    export     tidy.tidy       named nodes, folded shapes, every quantizer one Q/DQ pair with its own scale
    lower      keep_pairs      the placement: pairs that are off disappear
               set_scales      amax of the chosen method -> scale
               DIALECT passes  in the backend's order, from `BY_NAME`
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from pipeline.graph.hoist import hoist_above_layout
from pipeline.graph.images import transpose_images
from pipeline.graph.int8_rows import gather_int8_rows
from pipeline.graph.int8_weights import store_int8_weights
from pipeline.graph.linear_pointwise import linear_pointwise
from pipeline.graph.merge import merge_equal_pairs
from pipeline.graph.pairs import Pair, find_pairs, keep_pairs, set_scales
from pipeline.graph.sink import sink_transposes
from pipeline.graph.unsigned import unsigned_activations

GraphPass = Callable[[ir.Model], bool]

BY_NAME: dict[str, GraphPass] = {
    "gather_int8_rows": gather_int8_rows,
    "hoist_above_layout": hoist_above_layout,
    "linear_pointwise": linear_pointwise,
    "merge_equal_pairs": merge_equal_pairs,
    "sink_transposes": sink_transposes,
    "store_int8_weights": store_int8_weights,
    "transpose_images": transpose_images,
    "unsigned_activations": unsigned_activations,
}

__all__ = ["BY_NAME", "GraphPass", "Pair", "find_pairs", "keep_pairs", "set_scales"]
