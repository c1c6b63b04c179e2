"""GELU spelled out as a chain of operators, and the Q/DQ in it."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from pipeline.graph.nodes import DQ, Q, given, op
from pipeline.graph.view import View
from pipeline.graph.walks import back


def inside_gelu(view: View) -> Iterator[tuple[ir.Node, ir.Node]]:
    """Yields (Q, the Erf or Tanh) of every pair inside a chain, by either formula, the factors in any order:

        x / √2 → Erf → + 1 → · x → · ½
        x + 0.044715 x³ → · √(2/π) → Tanh → + 1 → · x → · ½

    A pair on x itself, before the chain, or on its result is not inside.
    """
    for core in view.of("Erf", "Tanh"):
        after = _after(view, core)
        if after is not None:
            for quantize in (*_before(view, core), *after):
                yield quantize, core


def scales_into_erf(node: ir.Node) -> bool:
    """Returns whether a product or quotient is the first step of the Erf chain."""
    return op(node) in ("Mul", "Div") and any(op(use.node) == "Erf" for use in node.outputs[0].uses())


def _after(view: View, core: ir.Node) -> list[ir.Node] | None:
    """Returns the Q between Erf or Tanh and the end of the chain, None where no such chain follows."""
    inside, readers = _forward(core.outputs[0])
    add = next((n for n in readers if op(n) == "Add" and _constant_factor(view, n)), None)
    if add is None:
        return None
    pairs, readers = _forward(add.outputs[0])
    first = next((n for n in readers if op(n) in ("Mul", "Div")), None)
    if first is None:
        return None
    inside += pairs
    pairs, readers = _forward(first.outputs[0])
    if not _constant_factor(view, first) and any(_is_halved(view, value) for value in first.inputs):
        return inside  # ½ x was made before
    # the product with x comes second where the one with ½ came first, and the other way round
    wanted = not _constant_factor(view, first)
    if any(op(n) in ("Mul", "Div") and _constant_factor(view, n) is wanted for n in readers):
        inside += pairs
    return inside


def _before(view: View, core: ir.Node) -> Iterator[ir.Node]:
    """Yields the Q between x and Erf or Tanh."""
    pairs, scaled = _backward(given(core, 0))
    if scaled is None or op(scaled) not in ("Mul", "Div") or not _constant_factor(view, scaled):
        return
    yield from pairs
    if op(core) == "Erf":
        return
    for value in scaled.inputs:
        pairs, add = _backward(value)
        if add is not None and op(add) == "Add":
            yield from pairs
            for summand in add.inputs:
                pairs, cube = _backward(summand)
                if cube is not None and op(cube) in ("Mul", "Pow"):
                    yield from pairs


def _forward(value: ir.Value) -> tuple[list[ir.Node], list[ir.Node]]:
    """Returns the Q passed and the operators that read a value, also behind Q/DQ pairs."""
    pairs: list[ir.Node] = []
    readers: list[ir.Node] = []
    stack = [value]
    while stack:
        for use in stack.pop().uses():
            if op(use.node) not in (Q, DQ):
                readers.append(use.node)
            elif use.idx == 0:
                pairs += [use.node] if op(use.node) == Q else []
                stack.append(use.node.outputs[0])
    return pairs, readers


def _backward(value: ir.Value | None) -> tuple[list[ir.Node], ir.Node | None]:
    """Returns the Q passed and the operator that made a value, behind Q/DQ pairs."""
    path = back(value, lambda node: op(node) in (Q, DQ))
    return [node for node in path.passed if op(node) == Q], path.node


def _constant_factor(view: View, node: ir.Node) -> bool:
    """Returns whether one input of a two-input operator is a stored number."""
    return any(view.is_constant(value) for value in node.inputs)


def _is_halved(view: View, value: ir.Value | None) -> bool:
    """Returns whether a value is a product with a constant, as ½ x is."""
    _, node = _backward(value)
    return node is not None and op(node) in ("Mul", "Div") and _constant_factor(view, node)
