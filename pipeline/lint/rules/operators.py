"""Operators that TensorRT cannot import, or fuses only in another form."""

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
    """Returns whether the operator computes on integers, not on float between DQ and Q."""
    kind = node.op_type
    return kind.startswith("QLinear") or kind.removesuffix("ToFloat").endswith("Integer") or kind in INTEGER_OPERATORS


@rule(
    "Q12",
    "E",
    "An operator computes on integers.",
    "Export in the QDQ format: float operators between DequantizeLinear and QuantizeLinear.",
)
def integer_operators(view: View) -> Iterator[Hit]:
    for node in view.nodes:
        if is_integer_operator(node):
            yield Hit(node, node.op_type)


@rule(
    "Q13",
    "E",
    "The parser does not read this operator set.",
    "Export with opset 17 for TensorRT 8.6, and with 19 or 20 for 10 and 11.",
)
def operator_set(view: View) -> Iterator[Hit]:
    """The parser of 8.6 does not stop at an opset above 17, so that alone is a warning; an operator that is new, or has
    an input or attribute that opset 17 lacks, is an error: it is refused, or silently misread.
    """
    if view.opset < 13:
        for node in view.of(Q, DQ):
            if parameters(view, node).channels is not None:
                yield Hit(node, f"a scale per channel in opset {view.opset}; these came with 13")
    if view.opset > LAST_OPSET_86:
        yield Hit(None, f"opset {view.opset}; 8.6 knows 17 and does not check", severity="W", targets=("8.6",))
        for node in view.nodes:
            if node.domain in ("", "ai.onnx") and (change := changed_since(node, LAST_OPSET_86)):
                yield Hit(node, change, targets=("8.6",))
    if view.opset > LAST_OPSET_100:
        yield Hit(None, f"opset {view.opset}; 10.0 and 10.1 know 20", severity="W", targets=("10",))


def changed_since(node: ir.Node, opset: int) -> str | None:
    """Returns what of a node an older operator set lacks, None if nothing; Q and DQ are judged by other rules."""
    if node.op_type in (Q, DQ):
        return None
    try:
        old = onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return f"{node.op_type} is not an operator of opset {opset}"
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
    """Returns the default of an attribute, None if it has none."""
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
    """Also after a Q/DQ pair. One that follows something else cannot be folded."""
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
    """x − mean → square → mean → + ε → Sqrt, with means over the last axis; the hit is the Sqrt. Every target reads the
    single node, so this applies below opset 17 too. Over other axes it is a group or instance normalization.
    """
    for node in view.of("Sqrt"):
        if _is_deviation(view, node):
            yield Hit(node)


def _is_deviation(view: View, root: ir.Node) -> bool:
    """Returns whether a Sqrt takes the root of a variance over the last axis."""
    add = _computed_by(given(root, 0), "Add")
    if add is None:
        return False
    for value in add.inputs:
        mean = _computed_by(value, "ReduceMean")
        square = None if mean is None else _computed_by(given(mean, 0), "Pow", "Mul")
        difference = None if square is None else _computed_by(given(square, 0), "Sub", "Cast")
        if difference is not None and op(difference) == "Cast":
            difference = _computed_by(given(difference, 0), "Sub")
        if mean is not None and difference is not None and maker(given(difference, 1)) == "ReduceMean":
            return _over_last_axis(view, mean)
    return False


def _computed_by(value: ir.Value | None, *types: str) -> ir.Node | None:
    node = producer(value)
    return node if node is not None and op(node) in types else None


def _over_last_axis(view: View, mean: ir.Node) -> bool:
    """Returns whether a ReduceMean goes over the last axis, which unknown axes are taken to include."""
    listed, dims = view.array(given(mean, 1)), view.dims(given(mean, 0))
    axes = numbers(mean, "axes") or () if listed is None else listed.reshape(-1).tolist()
    return not axes or -1 in axes or (dims is not None and len(dims) - 1 in axes)
