"""Products: quantized on both sides, of a size that gains, with known shapes."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import onnx_ir as ir

from pipeline.graph.nodes import PRODUCTS, given, number, op
from pipeline.graph.view import Dim, View
from pipeline.lint.rules import Hit, rule

BLOCKERS = frozenset(
    {"Mul", "Div", "Add", "Sub", "Cast", "Neg", "Pow", "Sqrt", "Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "Erf"}
    | {"Gelu", "HardSwish", "BatchNormalization"}
)
GROUP = 4  # channels of a group have to be a multiple of it for int8
SMALL, TILE = 16, 16


@rule(
    "Q18",
    "W",
    "Only one factor of a product is quantized.",
    "Quantize the other factor as well, or neither: as it is the product runs in float and its pair is a kernel.",
)
def half_quantized(view: View) -> Iterator[Hit]:
    """Products where something stands between the other DQ and the product are Q19's."""
    blocked = {id(node) for node, _, _ in blockers(view)}
    for node in view.of(*PRODUCTS):
        known = [bool(view.dequantizers(value)) for value in view.operands(node)]
        if known[0] != known[1] and id(node) not in blocked:
            yield Hit(node, f"{'second' if known[0] else 'first'} factor is float")


@rule(
    "Q19",
    "W",
    "An operator stands between DQ and its product.",
    "Compute it before Q, or fold it into the weights: DQ fuses only where it feeds the product itself.",
)
def something_in_between(view: View) -> Iterator[Hit]:
    """Only where the product is clearly meant to be int8: its other factor comes from DQ, straight or as badly."""
    for node, between, _ in blockers(view):
        yield Hit(between, f"before {view.label(node)}")


def blockers(view: View) -> list[tuple[ir.Node, ir.Node, tuple[ir.Node, ...]]]:
    """Returns (product, operator, the DQ behind it) wherever an operator keeps DQ from its product."""
    found = []
    for node in view.of(*PRODUCTS):
        between = [_blocker(view, value) for value in view.operands(node)]
        straight = [bool(view.dequantizers(value)) for value in view.operands(node)]
        if all(there or blocked for there, blocked in zip(straight, between, strict=True)):
            found += [(node, *blocked) for blocked in between if blocked is not None]
    return found


def _blocker(view: View, value: ir.Value | None) -> tuple[ir.Node, tuple[ir.Node, ...]] | None:
    """Returns the operator that makes a float factor from quantized tensors alone, with their DQ."""
    node = view.back(value).node
    if node is None or op(node) not in BLOCKERS:
        return None
    sources = [view.dequantizers(v) for v in node.inputs if v is not None and view.tensor(v) is None]
    return (node, tuple(dq for source in sources for dq in source)) if sources and all(sources) else None


@rule(
    "Q29",
    "W",
    "A depthwise or grouped convolution is quantized.",
    "Leave it float: int8 kernels need groups of a multiple of 4 channels, both in and out.",
)
def grouped_convolutions(view: View) -> Iterator[Hit]:
    """Groups of 4, 8, … channels do have int8 kernels and are let pass, though measured ones were rarely faster."""
    for node in view.of("Conv", "ConvTranspose"):
        groups, dims = number(node, "group") or 1, view.dims(given(node, 1))
        if groups == 1 or dims is None or not view.runs_int8(node):
            continue
        first, second = dims[0], dims[1]
        if not (isinstance(first, int) and isinstance(second, int)):
            continue
        sizes = first // groups, second  # of the filters [out, in / groups, …]; of ConvTranspose the other way round
        if any(size % GROUP for size in sizes):
            yield Hit(node, f"{groups} groups of {' and '.join(map(str, sizes))} channels")


@rule(
    "Q30",
    "W",
    "A quantized product is too small or of odd size.",
    "Leave it float, or pad its channels: below 16 int8 gains nothing, and kernels work in tiles of 16 or 32.",
)
def small_products(view: View) -> Iterator[Hit]:
    """A warning below 16 and for a single row or column; info where a size is no multiple of 16. The products of
    attention are Q21's, convolutions in groups Q29's.
    """
    for node in view.of(*PRODUCTS):
        if not view.runs_int8(node) or (number(node, "group") or 1) > 1:
            continue
        sizes = _sizes(view, node)
        rows = sizes.pop("M", None)
        small = {name: size for name, size in sizes.items() if size < SMALL}
        if small or 1 in (rows, sizes.get("N")):
            small |= {"M": 1} if rows == 1 else {}
            yield Hit(node, ", ".join(f"{name} {size}" for name, size in small.items()))
        elif any(size % TILE for size in sizes.values()):
            odd = [f"{name} {size}" for name, size in sizes.items() if size % TILE]
            yield Hit(node, ", ".join(odd), severity="I")


def _sizes(view: View, node: ir.Node) -> dict[str, int]:
    """Returns the known sizes of a product with stored weights: K and N, and M, the number of rows."""
    left, right = (view.dims(value) for value in view.operands(node))
    if right is None or not view.is_constant(given(node, 1)) or len(right) < 2:
        return {}
    sizes: dict[str, Dim]
    if op(node) in ("Conv", "ConvTranspose"):
        out, into = (right[0], right[1]) if op(node) == "Conv" else (right[1], right[0])
        sizes = {"Cin": into, "Cout": out}
    else:
        k, n = (right[-1], right[-2]) if number(node, "transB") else (right[-2], right[-1])
        sizes = {"K": k, "N": n, "M": _rows(node, left)}
    return {name: size for name, size in sizes.items() if isinstance(size, int)}


def _rows(node: ir.Node, left: tuple[Dim, ...] | None) -> int | None:
    if left is None or len(left) < 2:
        return None
    rows = left[1:] if number(node, "transA") else left[:-1]
    known = [size for size in rows if isinstance(size, int)]
    return prod(known) if len(known) == len(rows) else None


@rule(
    "Q37",
    "I",
    "Factors of an int8 MatMul have sizes that are not known.",
    "Export with fixed shapes where you can: the builder skips some int8 fusions of matrices with dynamic sizes.",
)
def dynamic_products(view: View) -> Iterator[Hit]:
    for node in view.of("MatMul"):
        if not view.runs_int8(node):
            continue
        shapes = [view.dims(value) for value in view.operands(node)]
        open_dims = [str(d or "?") for dims in shapes if dims is not None for d in dims if not isinstance(d, int)]
        if open_dims or None in shapes:
            yield Hit(node, ", ".join(dict.fromkeys(open_dims)) or "rank unknown")
