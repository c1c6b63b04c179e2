"""Residual adds: the sum of what a product computed and of what went around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from pipeline.graph.nodes import DQ, PRODUCTS, Q, commutes, op
from pipeline.graph.view import View
from pipeline.lint.pairs import is_sum

PASSES = frozenset({"Dropout", "Cast", Q, DQ})  # between a product and its sum, beside bias and scaling by constants
ACTIVATIONS = frozenset({"Relu", "LeakyRelu", "Clip", "HardSwish", "Gelu"})


@dataclass(frozen=True)
class Residual:
    """One residual add."""

    add: ir.Node
    main: tuple[bool, bool]  # which inputs come from a product
    quantized: tuple[bool, bool]  # which inputs come from DQ

    @property
    def skip_quantized(self) -> bool:
        """Whether a branch that goes around has Q/DQ; where both come from products, either will do."""
        around = [q for q, main in zip(self.quantized, self.main, strict=True) if not main]
        return any(around or self.quantized)


def residuals(view: View, masks: frozenset[int] = frozenset()) -> Iterator[Residual]:
    """Yields the residual adds; `masks` are ids of adds in attention, which are none."""
    for node in view.of("Add"):
        if id(node) in masks or not is_sum(view, node) or len(node.inputs) != 2:
            continue
        a, b = (view.dims(value) for value in node.inputs)
        if a is not None and b is not None and (len(a) != len(b) or _differ(a, b)):
            continue  # one is spread over the other: a bias or a mask
        main = [_from_product(view, value) for value in node.inputs]
        if any(main):
            first, second = (bool(view.dequantizers(value)) for value in node.inputs)
            yield Residual(node, (main[0], main[1]), (first, second))


def _differ(a: tuple[object, ...], b: tuple[object, ...]) -> bool:
    return any(isinstance(x, int) and isinstance(y, int) and x != y for x, y in zip(a, b, strict=True))


def counts(found: list[Residual]) -> dict[str, int]:
    """Returns how many adds have none, one or both of their inputs quantized."""
    numbers = [sum(residual.quantized) for residual in found]
    return {name: numbers.count(i) for i, name in enumerate(("none", "one", "both"))}


def _from_product(view: View, value: ir.Value | None) -> bool:
    """Returns whether a value is the result of a product, apart from bias, scaling, layout and Q/DQ."""
    for _ in range(12):
        node = None if value is None else value.producer()
        if node is None:
            return False
        if op(node) in PRODUCTS:
            return True
        if op(node) in ("Add", "Mul") and not is_sum(view, node):
            computed = [v for v in node.inputs if not view.is_constant(v)]
            value = computed[0] if len(computed) == 1 else None
        elif op(node) in PASSES or commutes(node):
            value = node.inputs[0]
        else:
            return False
    return False


def quantized_behind(view: View, add: ir.Node) -> str | None:
    """Returns "" where a Q takes the sum itself, or the operator between; None where no Q follows."""
    if view.reaches(add.outputs[0], Q):
        return ""
    for use in view.reach(add.outputs[0]).uses:
        through = op(use.node) in ACTIVATIONS or op(use.node) == "LayerNormalization"
        if through and use.slot == 0 and view.reaches(use.node.outputs[0], Q):
            return op(use.node)
    return None
