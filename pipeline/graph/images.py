"""Images stay images where tokens are made of them: whole images are transposed, not rows of pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from pipeline.graph.pairs import initializer, remove_unused, replace_value

TO_CHANNELS_LAST = (0, 2, 3, 1)
TO_CHANNELS_FIRST = (0, 3, 1, 2)
ROWS = (0, 2, 1)


def transpose_images(model: ir.Model) -> bool:
    """Exchanges the transpose and the reshape between an image and its tokens.

        x [B, C, H, W] → Reshape [B, C, HW] → Transpose → y    ->    x → Transpose [B, H, W, C] → Reshape [B, HW, C] → y
        x [B, HW, C] → Transpose → Reshape [B, C, H, W] → y    ->    x → Reshape [B, H, W, C] → Transpose → y

    Exact: no element changes its place. Runtimes keep a convolution's tensors channels last in memory; the transpose
    then changes the names of the axes and nothing else, where the reshape of planes forced a copy into planes first.
    """
    edited = False
    for rows in [node for node in model.graph if is_transpose(node, ROWS)]:
        edited |= _to_tokens(model, rows) or _to_images(model, rows)
    remove_unused(model)
    return edited


def is_transpose(node: ir.Node | None, order: Sequence[int]) -> bool:
    """Returns whether a node is a Transpose with this permutation."""
    return node is not None and node.op_type == "Transpose" and tuple(node.attributes["perm"].as_ints()) == tuple(order)


def _to_tokens(model: ir.Model, rows: ir.Node) -> bool:
    value = rows.inputs[0]
    planes = value.producer() if value is not None else None
    if planes is None or planes.op_type != "Reshape" or not _flattens(planes.inputs[0], value):
        return False
    image = planes.inputs[0]
    assert image is not None and image.shape is not None
    batch, channels, height, width = image.shape.dims
    last = transpose(image, TO_CHANNELS_LAST, (batch, height, width, channels), f"{planes.name}/channels_last")
    tokens = _reshape(model, last.outputs[0], (batch, int(height) * int(width), channels), f"{rows.name}/tokens")  # type: ignore[arg-type]
    model.graph.insert_before(rows, [last, tokens])
    replace_value(rows.outputs[0], tokens.outputs[0])
    return True


def _to_images(model: ir.Model, rows: ir.Node) -> bool:
    edited = False
    for planes in list(rows.outputs[0].consumers()):
        if planes.op_type != "Reshape" or not _flattens(planes.outputs[0], rows.outputs[0]):
            continue
        assert planes.outputs[0].shape is not None and rows.inputs[0] is not None
        batch, channels, height, width = planes.outputs[0].shape.dims
        last = _reshape(model, rows.inputs[0], (batch, height, width, channels), f"{planes.name}/channels_last")
        first = transpose(last.outputs[0], TO_CHANNELS_FIRST, (batch, channels, height, width), f"{planes.name}/image")
        model.graph.insert_before(planes, [last, first])
        replace_value(planes.outputs[0], first.outputs[0])
        edited = True
    return edited


def _flattens(image: ir.Value | None, planes: ir.Value | None) -> bool:
    """Returns whether [B, C, H, W] and [B, C, HW] hold the same planes; all but the batch must be known."""
    shapes = [v.shape.dims if v is not None and v.shape is not None else () for v in (image, planes)]
    if [len(s) for s in shapes] != [4, 3]:
        return False
    of_image, of_planes = shapes[0][1:], shapes[1][1:]
    if not all(isinstance(d, int) for d in (*of_image, *of_planes)):
        return False
    channels, height, width = (int(d) for d in of_image)  # type: ignore[arg-type]
    return (channels, height * width) == of_planes


Dims = Sequence[int | ir.SymbolicDim]


def transpose(x: ir.Value, order: Sequence[int], shape: Dims, name: str) -> ir.Node:
    """Returns a Transpose node that is not in the graph yet."""
    return described(ir.node("Transpose", [x], attributes={"perm": list(order)}), shape, name)


def _reshape(model: ir.Model, x: ir.Value, shape: Dims, name: str) -> ir.Node:
    target = initializer(model, f"{name}.shape", np.array([-1, *shape[1:]], dtype=np.int64))
    return described(ir.node("Reshape", [x, target]), shape, name)


def described(node: ir.Node, shape: Dims, name: str) -> ir.Node:
    """Returns the node with a name and with what is known of its float output."""
    node.name = node.outputs[0].name = name
    node.outputs[0].shape, node.outputs[0].dtype = ir.Shape(shape), ir.DataType.FLOAT
    return node
