"""Sums and activations behind products: what fuses into one kernel."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from pipeline.graph.blocks import mask_adds
from pipeline.graph.nodes import Q, maker, op
from pipeline.graph.view import View
from pipeline.lint.findings import Severity
from pipeline.lint.gelu import scales_into_erf
from pipeline.lint.pairs import is_sum
from pipeline.lint.quantizers import dequantizers_of
from pipeline.lint.residual import quantized_behind, residuals
from pipeline.lint.rules import Hit, rule

AFTER_CONV = frozenset(
    {"Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Gelu", "Elu", "Selu"}
    | {"Softplus", "Mish", "Erf", "BatchNormalization"}
)
CONVOLUTIONS = ("Conv", "ConvTranspose")


@rule(
    "Q23",
    "W",
    "The branch around a residual add is not quantized although the sum is.",
    "Quantize the branch that goes around (of convolutions only that one), or measure without: the sum then is float.",
)
def residual_branches(view: View) -> Iterator[Hit]:
    """A warning where Q takes the sum itself or its activation: product, sum and Q would be one kernel. Info where a
    LayerNormalization is between, as in transformers: there it saves bandwidth at most, and should be measured.
    """
    for found in residuals(view, mask_adds(view)):
        behind = quantized_behind(view, found.add)
        if behind is not None and not found.skip_quantized:
            number = ("no input", "one input", "both inputs")[sum(found.quantized)]
            through = f", Q behind {behind}" if behind else ""
            severity: Severity | None = "I" if behind == "LayerNormalization" else None
            yield Hit(found.add, f"{number} quantized{through}", severity=severity)


@rule(
    "Q24",
    "W",
    "A Q/DQ pair splits a convolution from its activation or its residual add.",
    "Remove the pair: convolution, add and activation run in one kernel, with Q behind the last of them.",
)
def pairs_behind_convolutions(view: View) -> Iterator[Hit]:
    """Of two convolutions that are added, one may have a pair: it is then the branch that goes around. Linear layers
    are not meant: there, both inputs of the add are quantized by design.
    """
    for quantize, reader in _behind_convolutions(view):
        yield Hit(quantize, f"before {op(reader)} {view.label(reader)}")


def quantized_before_activation(view: View) -> list[tuple[ir.Node, ir.Node]]:
    """Returns (DQ, activation) of the pairs that Q24 names."""
    return [(dq, reader) for quantize, reader in _behind_convolutions(view) for dq in dequantizers_of(quantize)]


def _behind_convolutions(view: View) -> Iterator[tuple[ir.Node, ir.Node]]:
    for node in view.of(*CONVOLUTIONS):
        for use in node.outputs[0].uses():
            for dequantize in dequantizers_of(use.node) if op(use.node) == Q else ():
                for reader in dict.fromkeys(r.node for r in dequantize.outputs[0].uses()):
                    if op(reader) in AFTER_CONV or scales_into_erf(reader) or _splits_add(view, reader, dequantize):
                        yield use.node, reader


def _splits_add(view: View, add: ir.Node, dequantize: ir.Node) -> bool:
    """Returns whether a sum gets a convolution's result through DQ, and nothing else from a convolution directly."""
    others = [value for value in add.inputs if value is not dequantize.outputs[0]]
    return is_sum(view, add) and not any(maker(value) in CONVOLUTIONS for value in others)
