"""int8 1×1 convolutions as matrix products, for runtimes whose int8 kernels are better for these."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from pipeline.graph.build import constant, described, initializer, replace_value
from pipeline.graph.images import TO_CHANNELS_FIRST, TO_CHANNELS_LAST, transpose
from pipeline.graph.nodes import DQ, given, producer
from pipeline.graph.passes import rewrite


def _pointwise(model: ir.Model) -> Iterator[tuple[ir.Node]]:
    return ((node,) for node in model.graph if node.op_type == "Conv" and _is_pointwise(node))


@rewrite(_pointwise, tolerance=1e-6)
def linear_pointwise(model: ir.Model, node: ir.Node) -> None:
    """Replaces 1×1 convolutions of stride 1 and one group whose weight is stored as int8.

        x [B, C, H, W] → Conv(W [N, C, 1, 1] → DQ, b)   ->   x → Transpose → MatMul(W [C, N] → DQ) → Add(b) → Transpose

    Exact up to the order of the products' sums; `sink_transposes` then removes the transposes between such layers.
    """
    x, output = node.inputs[0], node.outputs[0]
    assert x is not None and output.shape is not None
    batch, outputs, height, width = shape = output.shape.dims
    weight, channels = _linear_weight(model, node.inputs[1])
    pixels = transpose(x, TO_CHANNELS_LAST, (batch, height, width, channels), f"{node.name}/pixels")
    nodes = [weight, pixels, ir.node("MatMul", [pixels.outputs[0], weight.outputs[0]])]
    if (bias := given(node, 2)) is not None:
        nodes.append(ir.node("Add", [nodes[-1].outputs[0], bias]))
    for new in nodes[2:]:
        described(new, (batch, height, width, outputs), f"{node.name}/{new.op_type}")
    nodes.append(transpose(nodes[-1].outputs[0], TO_CHANNELS_FIRST, shape, f"{node.name}/channels_first"))
    model.graph.insert_before(node, nodes)
    replace_value(output, nodes[-1].outputs[0])


def _is_pointwise(node: ir.Node) -> bool:
    dequantize, image = producer(node.inputs[1]), node.outputs[0].shape
    if dequantize is None or dequantize.op_type != DQ or dequantize.inputs[0] is None:
        return False
    stored = dequantize.inputs[0].const_value
    return (
        stored is not None
        and tuple(stored.numpy().shape[2:]) == (1, 1)
        and image is not None
        and all(isinstance(d, int) for d in image.dims[1:])
        and node.attributes.get_int("group", 1) == 1
        and set(node.attributes.get_ints("strides", (1, 1))) == {1}
        and set(node.attributes.get_ints("pads", (0,))) == {0}
    )


def _linear_weight(model: ir.Model, weight: ir.Value | None) -> tuple[ir.Node, int]:
    """Returns the DQ of the weight as a matrix [C, N], whose output channels lie along axis 1, and C."""
    old = producer(weight)
    kernel = old.inputs[0] if old is not None else None
    assert old is not None and kernel is not None
    matrix = np.ascontiguousarray(constant(kernel)[:, :, 0, 0].T)
    alone = len(kernel.uses()) == 1 and len(old.outputs[0].uses()) == 1  # the matrix then takes the kernel's place
    stored = initializer(model, f"{kernel.name}" if alone else f"{kernel.name}.transposed", matrix)
    new = ir.node(DQ, [stored, *old.inputs[1:]], attributes={"axis": 1})
    new.metadata_props.update(old.metadata_props)
    return described(new, matrix.shape, f"{old.name}/linear"), len(matrix)
