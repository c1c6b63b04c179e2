"""Float weights in the layout that the product reads."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pipeline.graph.pairs import initializer, remove_unused


def fold_transposed_weights(model: ir.Model) -> bool:
    """Applies a Transpose of a float weight to the stored values.

        W [N, K] → Transpose → MatMul     ->     W [K, N] → MatMul

    Weights behind a Q/DQ pair are left: `store_int8_weights` does the same on their bytes.
    """
    folded = False
    for node in list(model.graph):
        value = node.inputs[0] if node.op_type == "Transpose" else None
        if value is None or value.const_value is None or node.outputs[0].is_graph_output():
            continue
        order = list(node.attributes["perm"].as_ints())
        array = np.ascontiguousarray(value.const_value.numpy().transpose(order))
        stored = initializer(model, f"{value.name}.transposed", array)
        node.outputs[0].replace_all_uses_with(stored)
        folded = True
    remove_unused(model)
    return folded
