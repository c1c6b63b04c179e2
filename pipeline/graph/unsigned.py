"""Activations as uint8 with zero point 128."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pipeline.graph.pairs import find_pairs, initializer, remove_unused


def unsigned_activations(model: ir.Model) -> bool:
    """Shifts every activation pair from int8 around 0 to uint8 around 128.

        Q(s, 0: int8) → DQ(s, 0: int8)     ->     Q(s, 128: uint8) → DQ(s, 128: uint8)

    Exactly equivalent: round(x/s) + 128 saturated to [0, 255] is round(x/s) saturated to [−128, 127], plus 128. CPU
    instructions (VNNI) multiply unsigned by signed bytes, so this is the form that runtimes have kernels for.
    """
    changed = False
    for pair in list(find_pairs(model)):
        if pair.axis is not None or pair.zero_point.dtype != np.int8 or pair.source.const_value is not None:
            continue
        shifted = (pair.zero_point.astype(np.int16) + 128).astype(np.uint8)
        value = initializer(model, f"{pair.names[0]}.zero_point_uint8", shifted)
        pair.quantize.replace_input_with(2, value)
        pair.dequantize.replace_input_with(2, value)
        pair.quantize.outputs[0].dtype = ir.DataType.UINT8
        changed = True
    remove_unused(model)
    return changed
