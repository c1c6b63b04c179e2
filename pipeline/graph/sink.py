"""Transposes to channels first, moved down until they meet their inverse."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from pipeline.graph.build import constant, copy_of, described, initializer, replace_value
from pipeline.graph.images import TO_CHANNELS_FIRST, TO_CHANNELS_LAST, is_transpose, transpose
from pipeline.graph.nodes import DQ, Q, producer
from pipeline.graph.passes import graph_pass

ONE_OPERAND = frozenset({"Relu", "Gelu", "Erf", Q, DQ})
TWO_OPERANDS = frozenset({"Add", "Sub", "Mul", "Div"})


def _inverses(model: ir.Model) -> Iterator[str]:
    """Yields the transposes that undo the one they read."""
    for node in model.graph:
        above = producer(node.inputs[0]) if is_transpose(node, TO_CHANNELS_LAST) else None
        if above is not None and is_transpose(above, TO_CHANNELS_FIRST) and not _is_renaming(above, node):
            yield f"{node.name} undoes {above.name}"


@graph_pass(ensures=_inverses)
def sink_transposes(model: ir.Model) -> bool:
    """Computes on channels-last tensors what does not care where the channels are.

        x → Transpose(0, 3, 1, 2) → op → y                           ->    x → op → Transpose(0, 3, 1, 2) → y
        x → Transpose(0, 3, 1, 2) → Transpose(0, 2, 3, 1) → y        ->    x → y

    op: elementwise, of one operand or of two that are both transposed, a per-tensor Q or DQ, a Resize of height and
    width. Exact. Between two linear layers nothing is transposed any more, and ONNX Runtime's bilinear Resize of
    channels-last images is several times faster than its Resize of planes.
    """
    edited = False
    moved = True
    while moved:
        moved = False
        for node in [n for n in model.graph if is_transpose(n, TO_CHANNELS_FIRST)]:
            for reader in list(node.outputs[0].consumers()):
                moved |= _pass_below(model, node, reader)
        edited |= moved
        if moved:  # a transpose that nothing reads any more would be found again
            common.RemoveUnusedNodesPass()(model)
    return edited


def _pass_below(model: ir.Model, above: ir.Node, reader: ir.Node) -> bool:
    """Moves one transpose below one of its readers; returns whether it could."""
    last, output = above.inputs[0], reader.outputs[0]
    assert last is not None
    if is_transpose(reader, TO_CHANNELS_LAST):
        if _is_renaming(above, reader):
            return False
        replace_value(output, last)
        return True
    if output.shape is None or len(output.shape) != 4:
        return False
    inputs = _channels_last_inputs(model, above, reader)
    if inputs is None:
        return False
    batch, channels, height, width = output.shape.dims
    new = described(copy_of(reader, inputs), (batch, height, width, channels), f"{reader.name}/channels_last")
    below = transpose(new.outputs[0], TO_CHANNELS_FIRST, output.shape.dims, f"{reader.name}/channels_first")
    new.outputs[0].type = below.outputs[0].type = output.type  # int8 between a Q and its DQ
    new.metadata_props.update(reader.metadata_props)
    model.graph.insert_before(reader, [new, below])
    replace_value(output, below.outputs[0])
    return True


def _is_renaming(above: ir.Node, below: ir.Node) -> bool:
    """Returns whether two transposes that cancel keep apart values of two names: an output, and an input or output."""
    first = above.inputs[0]
    assert first is not None
    return below.outputs[0].is_graph_output() and (first.producer() is None or first.is_graph_output())


def _channels_last_inputs(model: ir.Model, above: ir.Node, reader: ir.Node) -> list[ir.Value | None] | None:
    """Returns what the reader takes when its images are channels last, None for a reader that cannot."""
    if reader.op_type in ONE_OPERAND and reader.inputs[0] is above.outputs[0]:
        scales = [v.shape for v in reader.inputs[1:2] if v is not None]
        per_tensor = all(shape is not None and len(shape) == 0 for shape in scales)
        return [above.inputs[0], *reader.inputs[1:]] if per_tensor else None
    if reader.op_type in TWO_OPERANDS:
        return (
            [_channels_last(model, v) for v in reader.inputs] if all(map(_has_channels_last, reader.inputs)) else None
        )
    if reader.op_type == "Resize" and reader.inputs[0] is above.outputs[0]:
        return _resize_inputs(model, above, reader)
    return None


def _has_channels_last(value: ir.Value | None) -> bool:
    """Returns whether an operand can be had with its channels last without another transpose."""
    if value is None or value.const_value is None:
        return is_transpose(producer(value), TO_CHANNELS_FIRST)
    array = value.const_value.numpy()
    return array.size == 1 or array.ndim in (0, 4)


def _channels_last(model: ir.Model, value: ir.Value | None) -> ir.Value | None:
    node = producer(value)
    if value is None or node is not None:
        return node.inputs[0] if node is not None else None
    array = constant(value)
    if array.size == 1 or array.ndim == 0:
        return value
    return initializer(model, f"{value.name}.channels_last", np.ascontiguousarray(array.transpose(TO_CHANNELS_LAST)))


def _resize_inputs(model: ir.Model, above: ir.Node, reader: ir.Node) -> list[ir.Value | None] | None:
    """Returns image, roi and scales of a Resize whose height and width grow by known factors.

    Scales rather than sizes: ONNX Runtime takes the channels-last kernel only where it sees that the channels stay.
    """
    last, output = above.inputs[0], reader.outputs[0]
    if last is None or last.shape is None or output.shape is None or "axes" in reader.attributes:
        return None
    _, height, width, _ = last.shape.dims
    _, _, to_height, to_width = output.shape.dims
    if not all(isinstance(d, int) for d in (height, width, to_height, to_width)):
        return None
    scales = np.array([1, int(to_height) / int(height), int(to_width) / int(width), 1], dtype=np.float32)  # type: ignore[arg-type]
    if not np.array_equal(scales[1:3] * (int(height), int(width)), (int(to_height), int(to_width))):  # type: ignore[arg-type]
        return None  # sizes that no float32 factor gives exactly
    return [last, None, initializer(model, f"{reader.name}.scales", scales)]
