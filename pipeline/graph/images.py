"""Between images and tokens, whole images are transposed instead of rows of pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from pipeline.graph.build import Dims, described, initializer, replace_value
from pipeline.graph.nodes import numbers, producer
from pipeline.graph.passes import rewrite

TO_CHANNELS_LAST = (0, 2, 3, 1)
TO_CHANNELS_FIRST = (0, 3, 1, 2)
ROWS = (0, 2, 1)


def _flattenings(model: ir.Model) -> Iterator[tuple[ir.Node, ir.Node]]:
    """Yields (Reshape, Transpose) where an image becomes tokens, (Transpose, Reshape) where tokens become an image."""
    for rows in [node for node in model.graph if is_transpose(node, ROWS)]:
        above = producer(rows.inputs[0])
        if above is not None and above.op_type == "Reshape" and _flattens(above.inputs[0], rows.inputs[0]):
            yield above, rows
            continue
        for below in list(rows.outputs[0].consumers()):
            if below.op_type == "Reshape" and _flattens(below.outputs[0], rows.outputs[0]):
                yield rows, below


@rewrite(_flattenings)
def transpose_images(model: ir.Model, first: ir.Node, second: ir.Node) -> None:
    """Exchanges the transpose and the reshape between an image and its tokens.

        x [B, C, H, W] → Reshape [B, C, HW] → Transpose → y    ->    x → Transpose [B, H, W, C] → Reshape [B, HW, C] → y
        x [B, HW, C] → Transpose → Reshape [B, C, H, W] → y    ->    x → Reshape [B, H, W, C] → Transpose → y

    Exact: it is the same permutation. Runtimes keep a convolution's tensors channels last in memory, so the transpose
    then only renames axes, whereas the reshape of planes forced a copy into planes first.
    """
    nodes = _to_tokens(model, first, second) if first.op_type == "Reshape" else _to_image(model, first, second)
    model.graph.insert_before(second, nodes)
    replace_value(second.outputs[0], nodes[-1].outputs[0])


def is_transpose(node: ir.Node | None, order: Sequence[int]) -> bool:
    """Returns whether a node is a Transpose with this permutation."""
    return node is not None and node.op_type == "Transpose" and numbers(node, "perm") == tuple(order)


def _to_tokens(model: ir.Model, planes: ir.Node, rows: ir.Node) -> list[ir.Node]:
    image = planes.inputs[0]
    assert image is not None and image.shape is not None
    batch, channels, height, width = image.shape.dims
    last = transpose(image, TO_CHANNELS_LAST, (batch, height, width, channels), f"{planes.name}/channels_last")
    pixels = int(height) * int(width)  # type: ignore[arg-type]
    return [last, _reshape(model, last.outputs[0], (batch, pixels, channels), f"{rows.name}/tokens")]


def _to_image(model: ir.Model, rows: ir.Node, planes: ir.Node) -> list[ir.Node]:
    tokens, image = rows.inputs[0], planes.outputs[0]
    assert tokens is not None and image.shape is not None
    batch, channels, height, width = image.shape.dims
    last = _reshape(model, tokens, (batch, height, width, channels), f"{planes.name}/channels_last")
    return [last, transpose(last.outputs[0], TO_CHANNELS_FIRST, image.shape.dims, f"{planes.name}/image")]


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


def transpose(x: ir.Value, order: Sequence[int], shape: Dims, name: str) -> ir.Node:
    """Returns a Transpose node, not yet in the graph."""
    return described(ir.node("Transpose", [x], attributes={"perm": list(order)}), shape, name)


def _reshape(model: ir.Model, x: ir.Value, shape: Dims, name: str) -> ir.Node:
    target = initializer(model, f"{name}.shape", np.array([-1, *shape[1:]], dtype=np.int64))
    return described(ir.node("Reshape", [x, target]), shape, name)
