"""Transposes to channels first, moved down until they meet their inverse."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from pipeline.graph.build import constant, copy_of, described, initializer, replace_value
from pipeline.graph.images import TO_CHANNELS_FIRST, TO_CHANNELS_LAST, is_transpose, transpose
from pipeline.graph.nodes import DQ, Q, producer
from pipeline.graph.passes import rewrite

ONE_OPERAND = frozenset({"Relu", "Gelu", "Erf", Q, DQ})
TWO_OPERANDS = frozenset({"Add", "Sub", "Mul", "Div"})


def _passable(model: ir.Model) -> Iterator[tuple[ir.Node, ir.Node]]:
    """Yields (transpose to channels first, a reader that it can pass)."""
    for node in [n for n in model.graph if is_transpose(n, TO_CHANNELS_FIRST)]:
        for reader in list(node.outputs[0].consumers()):
            if _can_pass(node, reader):
                yield node, reader


@rewrite(_passable)
def sink_transposes(model: ir.Model, above: ir.Node, reader: ir.Node) -> None:
    """Computes on channels-last tensors what does not depend on where the channels are.

        x → Transpose(0, 3, 1, 2) → op → y                           ->    x → op → Transpose(0, 3, 1, 2) → y
        x → Transpose(0, 3, 1, 2) → Transpose(0, 2, 3, 1) → y        ->    x → y

    op: elementwise, of one operand or of two that are both transposed, a per-tensor Q or DQ, a Resize of height and
    width. Exact. Between two linear layers nothing is transposed any more, and ONNX Runtime's bilinear Resize of
    channels-last images is several times faster than its Resize of planes.
    """
    last, output = above.inputs[0], reader.outputs[0]
    assert last is not None
    if is_transpose(reader, TO_CHANNELS_LAST):
        replace_value(output, last)
        return
    assert output.shape is not None
    batch, channels, height, width = output.shape.dims
    inputs = _channels_last_inputs(model, above, reader)
    new = described(copy_of(reader, inputs), (batch, height, width, channels), f"{reader.name}/channels_last")
    below = transpose(new.outputs[0], TO_CHANNELS_FIRST, output.shape.dims, f"{reader.name}/channels_first")
    new.outputs[0].type = below.outputs[0].type = output.type  # int8 between a Q and its DQ
    new.metadata_props.update(reader.metadata_props)
    model.graph.insert_before(reader, [new, below])
    replace_value(output, below.outputs[0])


def _can_pass(above: ir.Node, reader: ir.Node) -> bool:
    """Returns whether a reader can compute with its channels last without needing another transpose."""
    first, output = above.inputs[0], reader.outputs[0]
    assert first is not None
    if is_transpose(reader, TO_CHANNELS_LAST):  # they cancel, unless that gives one value two names
        return not (output.is_graph_output() and (first.producer() is None or first.is_graph_output()))
    if output.shape is None or len(output.shape) != 4:
        return False
    if reader.op_type in ONE_OPERAND and reader.inputs[0] is above.outputs[0]:
        scales = [v.shape for v in reader.inputs[1:2] if v is not None]
        return all(shape is not None and len(shape) == 0 for shape in scales)  # else per channel
    if reader.op_type in TWO_OPERANDS:
        return all(map(_has_channels_last, reader.inputs))
    return reader.op_type == "Resize" and reader.inputs[0] is above.outputs[0] and _factors(above, reader) is not None


def _channels_last_inputs(model: ir.Model, above: ir.Node, reader: ir.Node) -> list[ir.Value | None]:
    """Returns the reader's inputs with images channels last."""
    if reader.op_type in TWO_OPERANDS:
        return [_channels_last(model, value) for value in reader.inputs]
    if reader.op_type == "Resize":
        # not sizes: ONNX Runtime takes the channels-last kernel only where it sees that the channels stay
        factors = _factors(above, reader)
        assert factors is not None
        return [above.inputs[0], None, initializer(model, f"{reader.name}.scales", factors)]
    return [above.inputs[0], *reader.inputs[1:]]


def _has_channels_last(value: ir.Value | None) -> bool:
    """Returns whether an operand is available with its channels last without another transpose."""
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


def _factors(above: ir.Node, resize: ir.Node) -> np.ndarray | None:
    """Returns the scales of a Resize per axis, channels last; None unless height and width change by known factors."""
    last, output = above.inputs[0], resize.outputs[0]
    if last is None or last.shape is None or output.shape is None or "axes" in resize.attributes:
        return None
    sizes = (*last.shape.dims[1:3], *output.shape.dims[2:])
    if not all(isinstance(d, int) for d in sizes):
        return None
    height, width, to_height, to_width = (int(d) for d in sizes)  # type: ignore[arg-type]
    scales = np.array([1, to_height / height, to_width / width, 1], dtype=np.float32)
    exact = np.array_equal(scales[1:3] * (height, width), (to_height, to_width))
    return scales if exact else None  # no float32 factor gives these sizes exactly
