"""Operators that TensorRT does not import, or fuses only in another form."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

from pipeline.graph.nodes import DQ, Q, given, maker, numbers, op, producer
from pipeline.graph.view import View
from pipeline.lint.quantizers import parameters
from pipeline.lint.rules import Hit, rule

LAST_OPSET_86, LAST_OPSET_100 = 17, 20
INTEGER_OPERATORS = frozenset({"QGemm", "QAttention", "DynamicQuantizeLinear", "DynamicQuantizeMatMul"})


def is_integer_operator(node: ir.Node) -> bool:
    """Returns whether the operator computes on integers itself instead of float between Q and DQ."""
    kind = node.op_type
    return kind.startswith("QLinear") or kind.removesuffix("ToFloat").endswith("Integer") or kind in INTEGER_OPERATORS


@rule(
    "Q12",
    "E",
    "An operator computes on integers itself.",
    "Export in the QDQ format: float operators between DequantizeLinear and QuantizeLinear.",
)
def integer_operators(view: View) -> Iterator[Hit]:
    for node in view.nodes:
        if is_integer_operator(node):
            yield Hit(node, node.op_type)


@rule(
    "Q13",
    "E",
    "The operator set is not one that the parser reads.",
    "Export with opset 17 for TensorRT 8.6, and with 19 or 20 for 10 and 11.",
)
def operator_set(view: View) -> Iterator[Hit]:
    """Above opset 17 the parser of 8.6 goes on, so that alone is a warning; an operator that is new, or is given an
    input or attribute that opset 17 does not have, is an error there: it is refused or read wrongly in silence.
    """
    if view.opset < 13:
        for node in view.of(Q, DQ):
            if parameters(view, node).channels is not None:
                yield Hit(node, f"a scale per channel in opset {view.opset}, which has none below 13")
    if view.opset > LAST_OPSET_86:
        yield Hit(None, f"opset {view.opset}; 8.6 knows 17 and does not check", severity="W", targets=("8.6",))
        for node in view.nodes:
            if node.domain in ("", "ai.onnx") and (change := changed_since(node, LAST_OPSET_86)):
                yield Hit(node, change, targets=("8.6",))
    if view.opset > LAST_OPSET_100:
        yield Hit(None, f"opset {view.opset}; 10.0 and 10.1 know 20", severity="W", targets=("10",))


def changed_since(node: ir.Node, opset: int) -> str | None:
    """Returns what an operator of an older operator set lacks to be this node; Q and DQ are judged by other rules."""
    if node.op_type in (Q, DQ):
        return None
    try:
        old = onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return f"{node.op_type} is no operator of opset {opset}"
    if len(node.inputs) > old.max_input and any(value is not None for value in node.inputs[old.max_input :]):
        return f"{node.op_type} with {len(node.inputs)} inputs"
    defaults = onnx.defs.get_schema(node.op_type).attributes
    for name, attribute in node.attributes.items():
        if name in old.attributes or attribute.is_ref():
            continue
        default = _default(defaults.get(name))
        if default is None or default != attribute.value:
            return f"{node.op_type} with {name}"
    return None


def _default(attribute: onnx.defs.OpSchema.Attribute | None) -> object:
    """Returns what an attribute means that is left out; None: nothing."""
    if attribute is None or not attribute.default_value.type:
        return None
    value = onnx.helper.get_attribute_value(attribute.default_value)
    return value.decode() if isinstance(value, bytes) else value


@rule(
    "Q25",
    "W",
    "A BatchNormalization follows a convolution.",
    "Fold it into the convolution before calibration.",
)
def batch_normalization(view: View) -> Iterator[Hit]:
    """Also behind a Q/DQ pair; one that follows something else cannot be folded and is left alone."""
    for node in view.of("BatchNormalization"):
        before = view.back(given(node, 0), lambda passed: op(passed) in (Q, DQ, "Identity")).node
        if before is not None and op(before) in ("Conv", "ConvTranspose"):
            yield Hit(node, f"after {view.label(before)}")


@rule(
    "Q33",
    "W",
    "A layer normalization is spelled out in small operators.",
    "Export it as one LayerNormalization, opset 17 or later: the chain is not fused and overflows in float16.",
)
def spelled_out_layer_norm(view: View) -> Iterator[Hit]:
    """x − mean → square → mean → + ε → Sqrt, the means over the last axis; named is the Sqrt. Every target can read
    the single node, so this holds below opset 17 too. Over other axes it is a group or instance normalization.
    """
    for node in view.of("Sqrt"):
        if _is_deviation(view, node):
            yield Hit(node)


def _is_deviation(view: View, root: ir.Node) -> bool:
    """Returns whether a Sqrt takes the root of a variance over the last axis."""
    add = _made_by(given(root, 0), "Add")
    if add is None:
        return False
    for value in add.inputs:
        mean = _made_by(value, "ReduceMean")
        square = None if mean is None else _made_by(given(mean, 0), "Pow", "Mul")
        difference = None if square is None else _made_by(given(square, 0), "Sub", "Cast")
        if difference is not None and op(difference) == "Cast":
            difference = _made_by(given(difference, 0), "Sub")
        if mean is not None and difference is not None and maker(given(difference, 1)) == "ReduceMean":
            return _over_last_axis(view, mean)
    return False


def _made_by(value: ir.Value | None, *types: str) -> ir.Node | None:
    node = producer(value)
    return node if node is not None and op(node) in types else None


def _over_last_axis(view: View, mean: ir.Node) -> bool:
    """Returns whether the last axis is among those that a ReduceMean goes over; unknown axes count as it."""
    listed, dims = view.array(given(mean, 1)), view.dims(given(mean, 0))
    axes = numbers(mean, "axes") or () if listed is None else listed.reshape(-1).tolist()
    return not axes or -1 in axes or (dims is not None and len(dims) - 1 in axes)
