"""Float weights in the layout that the product reads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from pipeline.graph.build import constant, initializer
from pipeline.graph.passes import rewrite


def _transposes(model: ir.Model) -> Iterator[tuple[ir.Node]]:
    for node in model.graph:
        weight = node.inputs[0] if node.op_type == "Transpose" else None
        if weight is not None and weight.const_value is not None and not node.outputs[0].is_graph_output():
            yield (node,)


@rewrite(_transposes)
def fold_transposed_weights(model: ir.Model, node: ir.Node) -> None:
    """Applies a Transpose of a float weight to the stored values.

        W [N, K] → Transpose → MatMul     ->     W [K, N] → MatMul

    Quantized weights stay as they are: `store_int8_weights` does the same to their bytes.
    """
    weight = node.inputs[0]
    assert weight is not None
    array = np.ascontiguousarray(constant(weight).transpose(node.attributes["perm"].as_ints()))
    node.outputs[0].replace_all_uses_with(initializer(model, f"{weight.name}.transposed", array))
