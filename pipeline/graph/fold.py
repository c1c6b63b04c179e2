"""Float weights in the layout that the product reads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from pipeline.graph.build import constant, initializer
from pipeline.graph.passes import graph_pass


def _transposes(model: ir.Model) -> Iterator[ir.Node]:
    """Yields the transposes of stored weights."""
    for node in model.graph:
        weight = node.inputs[0] if node.op_type == "Transpose" else None
        if weight is not None and weight.const_value is not None and not node.outputs[0].is_graph_output():
            yield node


@graph_pass(ensures=lambda model: (f"{node.name} transposes a stored weight" for node in _transposes(model)))
def fold_transposed_weights(model: ir.Model) -> bool:
    """Applies a Transpose of a float weight to the stored values.

        W [N, K] → Transpose → MatMul     ->     W [K, N] → MatMul

    Weights behind a Q/DQ pair are left: `store_int8_weights` does the same on their bytes.
    """
    folded = False
    for node in _transposes(model):
        weight, order = node.inputs[0], node.attributes["perm"].as_ints()
        assert weight is not None
        array = np.ascontiguousarray(constant(weight).transpose(order))
        node.outputs[0].replace_all_uses_with(initializer(model, f"{weight.name}.transposed", array))
        folded = True
    return folded
