"""Weights and biases: per channel, along the right axis, on a path that the builder knows."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from pipeline.graph.nodes import DQ, LAYOUT, PRODUCTS, Q, given, number, numbers, op, producer
from pipeline.graph.view import View
from pipeline.lint.quantizers import parameters, quantizers
from pipeline.lint.rules import Hit, rule

BIASED = ("Conv", "ConvTranspose", "Gemm")


@rule(
    "Q09",
    "E",
    "A tensor that is computed at run time is quantized per channel.",
    "Quantize activations with one scale; scales per channel are for weights.",
)
def channels_are_for_weights(view: View) -> Iterator[Hit]:
    for node in quantizers(view):
        channels = parameters(view, node).channels
        if channels is not None and not view.is_constant(given(node, 0)):
            yield Hit(node, f"{channels} scales")


@rule(
    "Q10",
    "E",
    "A scale per channel has no axis written beside it.",
    "Write `axis`: left out, it means 0 to some parsers of TensorRT and 1 to others.",
)
def axis_is_written(view: View) -> Iterator[Hit]:
    """Each node is looked at by itself: a Q and its DQ are read one by one."""
    for node in view.of(Q, DQ):
        found = parameters(view, node)
        if found.channels is not None and found.axis is None:
            yield Hit(node, f"{found.channels} scales")


@rule(
    "Q11",
    "E",
    "Weights are not quantized along the output channel.",
    "Quantize along the output channel: Conv 0, ConvTranspose 1, Gemm 1 (0 with transB), MatMul the last.",
)
def output_channels(view: View) -> Iterator[Hit]:
    """Traced through Transpose and Identity. Behind a Reshape, and where the rank is unknown, nothing is said."""
    for node in view.of(*PRODUCTS):
        for index in (0, 1):
            value = given(node, index)
            axis = _output_channel(view, node, index)
            if value is None or axis is None or not view.is_constant(value):
                continue
            path = view.back(value, lambda passed: op(passed) in ("Transpose", "Identity"))
            dims = view.dims(path.end)
            if path.node is None or op(path.node) != DQ or dims is None:
                continue
            found = parameters(view, path.node)
            for layout in path.passed:
                axis = _before(layout, axis, len(dims))
            if found.channels is not None and found.axis is not None and found.axis % len(dims) != axis:
                yield Hit(path.node, f"axis {found.axis}, {axis} for {op(node)} {view.label(node)}")


def _output_channel(view: View, node: ir.Node, index: int) -> int | None:
    """Returns the axis of a factor that ends up in the result, None where it is not known."""
    kind, dims = op(node), view.dims(given(node, index))
    if kind == "MatMul":
        return None if dims is None or len(dims) < 2 else len(dims) - (1 if index else 2)
    if index == 0:
        return None
    if kind == "Gemm":
        return 0 if number(node, "transB") else 1
    return 1 if kind == "ConvTranspose" else 0


def _before(layout: ir.Node, axis: int, rank: int) -> int:
    """Returns which axis of its input a Transpose moves to `axis`."""
    if op(layout) != "Transpose":
        return axis
    order = numbers(layout, "perm")
    return order[axis] if order is not None and len(order) == rank else rank - 1 - axis


@rule(
    "Q15",
    "E",
    "Weights do not reach their product by constant → [Q] → DQ → (Transpose or Reshape).",
    "Keep one DQ and at most one Q on the path, fold everything else into the stored weights.",
)
def weight_path(view: View) -> Iterator[Hit]:
    """A Transpose or Reshape before Q is a warning: the tensor is then no stored one, but constant folding mends it."""
    for node in view.of(*PRODUCTS):
        for value in view.operands(node):
            if not view.is_constant(value):
                continue
            fault = _path_fault(view, value)
            if fault is not None:
                yield Hit(node, fault, severity="W" if fault.endswith("before Q") else None)


def _path_fault(view: View, value: ir.Value | None) -> str | None:
    """Returns what is wrong between the stored tensor and its product, None for a good path or plain float weights."""
    steps: list[str] = []  # from the product back
    maker = producer(value)
    while maker is not None and op(maker) != "Constant" and maker.inputs:
        steps.append(op(maker))
        read = maker.inputs[:1] if op(maker) in (Q, DQ) else maker.inputs
        computed = [producer(v) for v in read if v is not None and view.tensor(v) is None]
        maker = computed[0] if computed else None
    if not {Q, DQ} & {*steps}:
        return None
    if steps.count(DQ) > 1 or steps.count(Q) > 1:
        return f"{steps.count(Q)} Q and {steps.count(DQ)} DQ"
    if DQ not in steps:
        return "a Q without DQ"
    other = next((step for step in steps if step not in (Q, DQ, *LAYOUT)), None)
    if other is not None:
        return f"{other} on the path"
    behind = steps[steps.index(DQ) + 1 :]
    if Q not in behind:
        return None  # what reads stored int8 is Q14's
    if behind[0] != Q:
        return f"{behind[0]} between Q and DQ"
    return None if behind[-1] == Q else f"{behind[-1]} before Q"


@rule(
    "Q16",
    "E",
    "A bias is quantized.",
    "Store the bias as a float initializer without Q/DQ: TensorRT makes its own.",
)
def float_bias(view: View) -> Iterator[Hit]:
    """On 8.6 the bias of a convolution has to be a stored tensor; another is an error there alone."""
    seen = set()
    for node in view.of(*BIASED):
        bias = given(node, 2)
        source = view.back(bias).node
        if source is not None and op(source) == DQ:
            seen.add(id(source))
            yield Hit(source, f"bias of {view.label(node)}")
        elif bias is not None and view.dtype(bias) == ir.DataType.INT32:
            yield Hit(node, "int32 bias")
        elif bias is not None and op(node) != "Gemm" and view.tensor(bias) is None:
            yield Hit(node, "the bias is not stored", targets=("8.6",))
    for node in view.of(DQ):
        if id(node) not in seen and view.dtype(given(node, 0)) == ir.DataType.INT32:
            yield Hit(node, "DQ on int32")
