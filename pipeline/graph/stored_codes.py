"""The int8 values of a stored weight as the product behind it reads them; read only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from calibration.arithmetic import Grid
from pipeline.graph.nodes import DQ, Q, is_layout, op, producer
from pipeline.graph.walks import Values

OPSET = 20  # of the operators below: none has changed since 18 but in its types
REARRANGES = frozenset({"Concat", "DepthToSpace", "Expand", "Gather", "Slice", "SpaceToDepth", "Split"})
RESCALES = frozenset({"Cast", "Div", "Dropout", "Mul", "Neg"})  # the codes stay, up to their sign


def codes_of(value: ir.Value | None, through: Callable[[ir.Node], Values]) -> np.ndarray | None:
    """Returns the int8 values of a stored weight behind the operators after its DQ, None for anything else.

    through: gives the inputs along which an operator is followed, none where the walk ends. Raises ValueError and
    TypeError for sizes and attributes that do not fit.
    """
    node = producer(value)
    if node is None:
        return None
    if op(node) == DQ:
        return _stored(node)
    parts = [codes_of(part, through) for part in through(node)]
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    if is_layout(node):
        return _laid_out(known[0], node)
    if op(node) in REARRANGES:
        return _rearranged(node, node.outputs.index(value), known)  # type: ignore[arg-type]
    one_scale = all(x.size == 1 for x in map(constant, node.inputs) if x is not None)
    return known[0] if op(node) in RESCALES and one_scale else None


def constant(value: ir.Value | None) -> np.ndarray | None:
    """Returns the elements of an initializer or a Constant, None for anything else."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def _stored(dequantize: ir.Node) -> np.ndarray | None:
    value = dequantize.inputs[0]
    codes = constant(value)
    if codes is not None:
        return codes if codes.dtype != np.uint8 else (codes.astype(np.int16) - 128).astype(np.int8)
    quantize = producer(value)
    if quantize is None or quantize.op_type != Q:
        return None
    weight, scale = constant(quantize.inputs[0]), constant(quantize.inputs[1])
    if weight is None or scale is None:
        return None
    axis = quantize.attributes.get_int("axis", 1) if scale.ndim else None
    return Grid(scale.astype(np.float32), axis).quantize(weight)


def _laid_out(array: np.ndarray, layout: ir.Node) -> np.ndarray | None:
    """Returns an array after a layout operator, None if the operator's output shape is unknown."""
    if layout.op_type == "Transpose":
        order: Any = layout.attributes.get_ints("perm", tuple(range(array.ndim))[::-1])
        return array.transpose(order)
    shape = layout.outputs[0].shape
    sizes = [] if shape is None else [d for d in shape if isinstance(d, int)]
    return array.reshape(sizes) if shape is not None and len(sizes) == len(shape) else None


def _rearranged(node: ir.Node, output: int, parts: list[np.ndarray]) -> np.ndarray | None:
    """Returns an output of an operator that only moves elements, None where it depends on what is computed."""
    from onnx.reference import ReferenceEvaluator

    others = [] if op(node) == "Concat" else [constant(value) for value in node.inputs[1:] if value is not None]
    if any(array is None for array in others):
        return None
    names = [value.name for value in node.inputs if value is not None]
    try:
        evaluator = ReferenceEvaluator(ir.to_proto(node), opsets={"": OPSET})
        found = evaluator.run(None, dict(zip(names, [*parts, *others], strict=True)))
    except Exception as error:  # it raises what NumPy does, and RuntimeError
        raise ValueError(f"{node.name} cannot be computed: {error}") from error
    return np.asarray(found[output])
