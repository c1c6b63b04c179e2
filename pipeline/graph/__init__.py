"""Graph edits on ONNX, one small pass a file; each says `before -> after` and checks what it promises.

Data flow of a quantized graph:

    export     tidy.tidy       named nodes, folded shapes, every quantizer one Q/DQ pair with its own scale
    lower      keep_pairs      the placement: pairs that are off disappear
               set_scales      amax of the chosen method -> scale
               dialect passes  in the backend's order, from `BY_NAME`
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from pipeline.graph.attention import BOUNDS, keep_fused_attention
from pipeline.graph.half_precision import half_precision
from pipeline.graph.half_scales import half_scales
from pipeline.graph.hoist import hoist_above_layout
from pipeline.graph.images import transpose_images
from pipeline.graph.int8_rows import gather_int8_rows
from pipeline.graph.int8_weights import store_int8_weights
from pipeline.graph.linear_pointwise import linear_pointwise
from pipeline.graph.merge import merge_equal_pairs
from pipeline.graph.opset_17 import opset_17
from pipeline.graph.pairs import Pair, dropped, find_pairs, keep_pairs, scales_of, set_scales
from pipeline.graph.saturation_free import saturation_free
from pipeline.graph.sink import sink_transposes
from pipeline.graph.sink_pairs import sink_below_layout
from pipeline.graph.unsigned import unsigned_activations

GraphPass = Callable[[ir.Model], bool]

BY_NAME: dict[str, GraphPass] = {
    "gather_int8_rows": gather_int8_rows,
    "half_precision": half_precision,
    "half_scales": half_scales,
    "hoist_above_layout": hoist_above_layout,
    "keep_fused_attention": keep_fused_attention,
    "linear_pointwise": linear_pointwise,
    "merge_equal_pairs": merge_equal_pairs,
    "opset_17": opset_17,
    "saturation_free": saturation_free,
    "sink_below_layout": sink_below_layout,
    "sink_transposes": sink_transposes,
    "store_int8_weights": store_int8_weights,
    "transpose_images": transpose_images,
    "unsigned_activations": unsigned_activations,
}

__all__ = ["BOUNDS", "BY_NAME", "GraphPass", "Pair", "dropped", "find_pairs", "keep_pairs", "scales_of", "set_scales"]
