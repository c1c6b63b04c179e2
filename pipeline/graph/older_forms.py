"""Operators in the form they had in opset 17, one function each, which rewrites a node or returns why it cannot."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from pipeline.graph.build import Dims, described, initializer, replace_value
from pipeline.graph.nodes import given

Rule = Callable[[ir.Model, ir.Node], "str | None"]


def gelu(model: ir.Model, node: ir.Node) -> str | None:
    """x · ½ · (1 + erf(x/√2)); with approximate = "tanh" x · ½ · (1 + tanh(√(2/π)·(x + 0.044715·x³))).

    In the order that PyTorch's exporter used to write, which TensorRT's fusions look for.
    """
    x, old, count = node.inputs[0], node.outputs[0], 0
    assert x is not None

    def add(op_type: str, left: ir.Value, right: ir.Value | float | None = None) -> ir.Value:
        nonlocal count
        if isinstance(right, float):
            right = initializer(model, f"gelu.{right:.6g}", np.array(right, np.float32))
        new = ir.node(op_type, [left] if right is None else [left, right])
        model.graph.insert_before(node, described(new, old.shape, f"{node.name}/{op_type}_{count}", old.dtype))
        count += 1
        return new.outputs[0]

    if node.attributes.get_string("approximate", "none") == "tanh":
        cubic = add("Add", x, add("Mul", add("Pow", x, 3.0), 0.044715))
        inner = add("Tanh", add("Mul", cubic, math.sqrt(2 / math.pi)))
    else:
        inner = add("Erf", add("Div", x, math.sqrt(2)))
    replace_value(old, add("Mul", add("Mul", x, add("Add", inner, 1.0)), 0.5))
    return None


def reduction(model: ir.Model, node: ir.Node) -> str | None:
    """Axes from the second input to the attribute."""
    if node.attributes.get_int("noop_with_empty_axes", 0):
        return "noop_with_empty_axes came later"
    node.attributes.pop("noop_with_empty_axes", None)
    axes = given(node, 1)
    if axes is not None:
        if axes.const_value is None:
            return "its axes are computed at run time"
        listed = [int(axis) for axis in axes.const_value.numpy()]
        if listed:  # an empty list means all axes, as does no attribute
            node.attributes["axes"] = ir.AttrInt64s("axes", listed)
    node.resize_inputs(1)
    return None


def split(model: ir.Model, node: ir.Node) -> str | None:
    """The length of every part instead of their number; the last part may be shorter."""
    count = node.attributes.get_int("num_outputs", 0)
    node.attributes.pop("num_outputs", None)
    if not count or given(node, 1) is not None:
        return None
    dims = _dims(node.inputs[0])
    length = dims[node.attributes.get_int("axis", 0)] if dims is not None else None
    if not isinstance(length, int):
        return "the length that it splits is unknown"
    part = -(-length // count)
    lengths = [part] * (count - 1) + [length - part * (count - 1)]
    node.resize_inputs(2)
    node.replace_input_with(1, initializer(model, f"{node.name}.lengths", np.array(lengths, np.int64)))
    return None


def pad(model: ir.Model, node: ir.Node) -> str | None:
    """Pads of every axis instead of some."""
    if len(node.inputs) < 4:
        return None
    axes, pads, dims = node.inputs[3], node.inputs[1], _dims(node.inputs[0])
    if axes is not None:
        if axes.const_value is None or pads is None or pads.const_value is None or dims is None:
            return "its axes or pads are computed at run time, or its rank is unknown"
        begins, ends = pads.const_value.numpy().reshape(2, -1)
        places = [int(a) % len(dims) for a in axes.const_value.numpy()]
        whole = np.zeros((2, len(dims)), np.int64)
        whole[0, places], whole[1, places] = begins, ends
        node.replace_input_with(1, initializer(model, f"{node.name}.pads", whole.reshape(-1)))
    node.resize_inputs(3)
    return None


def resize(model: ir.Model, node: ir.Node) -> str | None:
    """Scales or sizes of every axis instead of some."""
    if "axes" not in node.attributes:
        return None
    dims = _dims(node.inputs[0])
    axes = [axis % len(dims) for axis in node.attributes.get_ints("axes", ())] if dims is not None else []
    if not axes or node.attributes.get_string("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        return "its rank is unknown, or it crops"
    for index, whole in ((2, [1.0] * len(dims or ())), (3, list(dims or ()))):
        value = given(node, index)
        if value is None:
            continue
        if value.const_value is None:
            return "its sizes are computed at run time"
        array = value.const_value.numpy()
        if not array.size:
            continue
        for axis, number in zip(axes, array, strict=True):
            whole[axis] = number
        if not all(isinstance(n, (int, float, np.number)) for n in whole):
            return "the lengths of the axes that stay are unknown"
        node.replace_input_with(index, initializer(model, f"{node.name}.all_axes", np.array(whole, array.dtype)))
    node.attributes.pop("axes")
    return None


def _dims(value: ir.Value | None) -> Dims | None:
    return value.shape.dims if value is not None and value.shape is not None else None


REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")  # Sum changed before 17
RULES: dict[str, Rule] = {
    "Gelu": gelu,
    "Pad": pad,
    "Resize": resize,
    "Split": split,
    **{f"Reduce{name}": reduction for name in REDUCTIONS},
}
