"""Which readers of a DQ can run in int8, and which Q and DQ stay kernels of their own."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from pipeline.graph.nodes import DQ, PRODUCTS, Q, given, is_layout, op
from pipeline.graph.view import Use, View
from pipeline.lint.findings import Unfused
from pipeline.lint.quantizers import dequantizers_of, same_scale

# float in TensorRT, whatever stands around them
FLOAT_ONLY = frozenset(
    {"LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization", "Softmax", "LogSoftmax"}
    | {"Gelu", "Erf", "Tanh", "Sqrt", "Pow", "Exp", "Log", "Div", "Sub", "Reciprocal", "ReduceMean", "Einsum"}
)
# int8 where their inputs and their output are quantized
QUANTIZABLE = frozenset(
    {"Mul", "Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "AveragePool", "GlobalAveragePool"}
    | {"BatchNormalization", "Resize", "Add", "Sum"}
)
NORMALIZATIONS = frozenset({"LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization"})


def is_sum(view: View, node: ir.Node) -> bool:
    """Returns whether the operator adds two tensors that are computed, no bias."""
    return op(node) in ("Add", "Sum") and sum(not view.is_constant(value) for value in node.inputs) > 1


def only_float(view: View, use: Use) -> bool:
    """Returns whether a reader of a DQ surely runs in float.

    A product is none, nor a sum of two tensors, whose kernel reads int8 and saves bandwidth; nor are operators that
    this linter does not know.
    """
    kind = op(use.node)
    if kind in FLOAT_ONLY:
        return True
    if kind not in QUANTIZABLE or is_sum(view, use.node):
        return False
    return not any(view.reaches(output, Q) for output in use.node.outputs)


def feeds_normalization_after_conv(view: View, dequantize: ir.Node, use: Use) -> bool:
    """Returns whether a DQ stands between a convolution and a normalization, which lets the convolution write int8."""
    quantize = view.back(given(dequantize, 0)).node
    source = None if quantize is None else view.back(given(quantize, 0)).node
    return op(use.node) in NORMALIZATIONS and source is not None and op(source) in ("Conv", "ConvTranspose")


def unfused(view: View) -> Iterator[Unfused]:
    """Yields the Q and DQ that probably become kernels of their own. A prediction from the documented fusions:

    DQ    fuses into int8 products, into sums, into operators between DQ and Q, and cancels with a Q. Anything else
          that reads it makes it a kernel, or a copy of it where it has other readers.
    Q     fuses into the operator that computes its tensor. A graph's input has none; nor is there a use for a Q all
          of whose DQ are kernels, and one behind a DQ of another scale computes everything again.

    Those on stored tensors are folded when the engine is built and never counted.
    """
    lost = set()
    for node in view.of(DQ):
        reasons = [] if view.is_constant(node.outputs[0]) else _readers_in_float(view, node)
        if any(reasons):
            yield Unfused(view.label(node), DQ, next(filter(None, reasons)))
        if reasons and all(reasons):
            lost.add(id(node))
    for node in view.of(Q):
        if view.is_constant(node.outputs[0]):
            continue
        source, readers = view.back(given(node, 0)), dequantizers_of(node)
        before = source.node if all(is_layout(passed) for passed in source.passed) else None
        if source.node is None:
            yield Unfused(view.label(node), Q, "quantizes an input of the graph")
        elif before is not None and op(before) == DQ and not same_scale(view, before, node):
            yield Unfused(view.label(node), Q, f"requantizes {view.label(before)}")
        elif readers and all(id(dq) in lost for dq in readers):
            yield Unfused(view.label(node), Q, "no DQ of it is fused")


def _readers_in_float(view: View, dequantize: ir.Node) -> list[str | None]:
    """Returns for every reader of a DQ why it takes no int8, None where it does."""
    reach = view.reach(dequantize.outputs[0])
    reasons: list[str | None] = []
    for use in reach.uses:
        kind, name = op(use.node), view.label(use.node)
        if kind in PRODUCTS and use.slot < 2:
            reasons.append(None if view.runs_int8(use.node) else f"{kind} {name} has one float factor")
        elif (only_float(view, use) or kind == "Cast") and not feeds_normalization_after_conv(view, dequantize, use):
            reasons.append(f"{kind} {name} runs in float")
        else:
            reasons.append(None)
    if any(id(value) in view.outputs for value in reach.outputs):
        reasons.append("it is an output of the graph")
    return reasons
