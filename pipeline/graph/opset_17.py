"""The graph in opset 17, the latest that TensorRT 8.6 documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common

from pipeline.errors import InputError
from pipeline.graph.build import constant, initializer
from pipeline.graph.nodes import DQ, Q, given
from pipeline.graph.older_forms import RULES
from pipeline.graph.passes import graph_pass

OPSET, IR_VERSION = 17, 8
PAIR = (Q, DQ)

# Attributes of later opsets, and the value at which they change nothing.
WITHOUT_EFFECT: dict[tuple[str, str], Any] = {
    ("AveragePool", "dilations"): 1,
    ("Cast", "saturate"): 1,
    ("CastLike", "saturate"): 1,
    ("DequantizeLinear", "block_size"): 0,
    ("DequantizeLinear", "output_dtype"): 0,
    ("QuantizeLinear", "block_size"): 0,
    ("QuantizeLinear", "output_dtype"): 0,
    ("QuantizeLinear", "precision"): 0,
    ("QuantizeLinear", "saturate"): 1,
    ("Resize", "antialias"): 0,
    ("Resize", "keep_aspect_ratio_policy"): "stretch",
}
# What the schemas of opset 17 do not tell: values that an attribute got later, and operators that changed meaning.
LATER_VALUES = {
    ("Pad", "mode"): ("wrap",),
    ("Resize", "coordinate_transformation_mode"): ("half_pixel_symmetric",),
    ("ScatterElements", "reduction"): ("max", "min"),
    ("ScatterND", "reduction"): ("max", "min"),
}
OTHER_MEANING = frozenset({"DFT", "GridSample"})


def _newer(model: ir.Model) -> Iterator[str]:
    if model.opset_imports.get("", 0) > OPSET:
        yield f"the graph is in opset {model.opset_imports['']}"


@graph_pass(ensures=_newer, tolerance=1e-6)
def opset_17(model: ir.Model) -> bool:
    """Rewrites operators that are newer than opset 17, or changed since, to equivalents there.

        x → Gelu → y                         ->     x → Div(√2) → Erf → Add(1) → Mul(x) → Mul(0.5) → y
        ReduceMean(x, axes) → y              ->     ReduceMean<axes>(x) → y, and other reductions likewise
        Split<num_outputs>, Pad(axes), Resize<axes>      ->     Split(x, lengths), Pad, Resize of all axes
        Q, DQ per channel without an axis    ->     with the axis: TensorRT's parsers disagree on what absence means

    Exact, Gelu up to float rounding. LayerNormalization is in opset 17 and stays one node. Raises InputError naming
    every operator without an equivalent. The result has IR version 8, which belongs to opset 17.
    """
    version = model.opset_imports.get("", 0)
    explicit = [_write_out(model, node) for node in model.graph if node.op_type in PAIR]
    if version <= OPSET:
        return any(explicit)
    faults = {}
    for node in list(model.graph):
        _drop_defaults(node)
        rule = RULES.get(node.op_type) if node.domain == "" else None
        if rule is not None and (fault := rule(model, node)):
            faults[node] = fault
    common.RemoveUnusedNodesPass()(model)  # unused operators need no older form
    faults.update({node: fault for node in model.graph if node not in faults and (fault := _fault(node))})
    if faults:
        listed = "\n".join(f"  {node.name} ({node.op_type}): {fault}" for node, fault in faults.items())
        raise InputError(
            f"{len(faults)} operators have no form in opset {OPSET}, which TensorRT 8.6 needs:\n{listed}\n"
            "Build for TensorRT 10 or later (--set tensorrt.target=10)."
        )
    model.opset_imports[""], model.ir_version = OPSET, IR_VERSION
    return True


def _write_out(model: ir.Model, node: ir.Node) -> bool:
    """Writes out the defaults of a Q or DQ as inputs and attributes; returns whether any was missing."""
    scale = node.inputs[1]
    if scale is None or scale.const_value is None:
        return False
    shape = constant(scale).shape
    missing = given(node, 2) is None
    if missing and node.op_type == DQ:  # a Q without one makes uint8, which `_fault` refuses
        node.resize_inputs(3)
        node.replace_input_with(2, initializer(model, f"{node.name}.zero_point", np.zeros(shape, np.int8)))
    axis = len(shape) == 1 and "axis" not in node.attributes
    if axis:
        node.attributes["axis"] = ir.AttrInt64("axis", 1)
    return axis or (missing and node.op_type == DQ)


def _drop_defaults(node: ir.Node) -> None:
    """Removes attributes of later opsets whose value is what opset 17 does anyway."""
    for name, attribute in list(node.attributes.items()):
        value = WITHOUT_EFFECT.get((node.op_type, name))
        values = attribute.value if isinstance(attribute.value, (list, tuple)) else (attribute.value,)
        if value is not None and all(v == value for v in values):
            node.attributes.pop(name)


def _fault(node: ir.Node) -> str | None:
    """Returns why a node is not valid in opset 17, None if it is or belongs to another domain."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
        return "it holds a graph of its own, which is not rewritten"
    try:
        schema = onnx.defs.get_schema(node.op_type, OPSET)
    except onnx.defs.SchemaError:
        return "it came later"
    if node.op_type in OTHER_MEANING:
        return "it meant something else"
    later = [name for name in node.attributes if name not in schema.attributes]
    if later:
        return f"{', '.join(later)} came later"
    if len(node.inputs) > schema.max_input:
        return f"it took at most {schema.max_input} inputs, here it has {len(node.inputs)}"
    for (op_type, name), values in LATER_VALUES.items():
        if op_type == node.op_type and node.attributes.get_string(name, "") in values:
            return f"{name} = {node.attributes.get_string(name)} came later"
    return _pair_fault(node) if node.op_type in PAIR else None


def _pair_fault(node: ir.Node) -> str | None:
    """Returns why TensorRT 8.6 would refuse or misread a Q or DQ."""
    scale, zero_point = given(node, 1), given(node, 2)
    if scale is None or scale.const_value is None:
        return "its scale is computed at run time"
    if scale.const_value.dtype != ir.DataType.FLOAT:
        return f"its scale is {scale.const_value.dtype.name}, not FLOAT"
    if zero_point is None or zero_point.const_value is None:
        return "it has no stored zero point"
    array = zero_point.const_value.numpy()
    return "its zero point is not int8 and 0" if array.dtype != np.int8 or array.any() else None
