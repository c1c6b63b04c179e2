"""Constants, nodes and values of a graph that is being edited."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

Dims = Sequence[int | ir.SymbolicDim]


def constant(value: ir.Value | None) -> np.ndarray:
    """Returns the array behind an initializer. Raises ValueError for anything that is computed at run time."""
    if value is None or value.const_value is None:
        raise ValueError(f"{value.name if value else 'a missing input'} is not an initializer")
    return value.const_value.numpy()


def initializer(model: ir.Model, name: str, array: np.ndarray) -> ir.Value:
    """Returns the graph's initializer `name`, set to `array`."""
    tensor = ir.tensor(array, name=name)
    known = model.graph.initializers.get(name)
    if known is not None:
        known.const_value = tensor
        known.shape, known.dtype = ir.Shape(array.shape), tensor.dtype
        return known
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    model.graph.register_initializer(value)
    return value


def described(
    node: ir.Node, shape: Dims | ir.Shape | None, name: str, dtype: ir.DataType | None = ir.DataType.FLOAT
) -> ir.Node:
    """Returns the node after naming it and its output `name`, and giving the output its shape and type."""
    output = node.outputs[0]
    node.name = output.name = name
    output.shape = None if shape is None else ir.Shape(shape)
    output.type = None if dtype is None else ir.TensorType(dtype)
    return node


def copy_of(node: ir.Node, inputs: Sequence[ir.Value | None]) -> ir.Node:
    """Returns the same operator on other inputs, not yet in the graph."""
    return ir.node(node.op_type, inputs, attributes={a.name: a.value for a in node.attributes.values()})


def replace_value(old: ir.Value, new: ir.Value) -> None:
    """Gives every reader of `old` the value `new`, which also takes its name if it is an output of the graph."""
    name = old.name if old.is_graph_output() else None
    new.type, new.shape = new.type or old.type, new.shape or old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    if name is not None:
        old.name, new.name = f"{name}/replaced", name
