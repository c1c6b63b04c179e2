"""int8 coverage: the share of multiply-accumulates whose two factors come from DQ."""

from __future__ import annotations

from itertools import zip_longest
from math import prod

import onnx_ir as ir

from pipeline.graph.nodes import PRODUCTS, number, op
from pipeline.graph.view import Dim, View, first_known
from pipeline.lint.findings import Coverage

Dims = tuple[Dim, ...]
STAND_IN = 128  # for a dimension that is neither known nor a batch


def coverage(view: View) -> Coverage:
    """Returns the multiply-accumulates of one call, in int8 and in float.

    A dimension that is not known counts as 1 where it is the first of a tensor or called like the first of an input: a
    batch. Every other one counts as 128. Which were open is part of the result. Operators of unknown rank are not
    counted and listed. A loop's body counts once.
    """
    batch = {dims[0] for value in view.model.graph.inputs if (dims := view.dims(value)) and isinstance(dims[0], str)}
    assumed: dict[str, int] = {}
    macs: list[tuple[ir.Node, int]] = []
    uncounted: list[str] = []
    for node in view.of(*PRODUCTS):
        factors = _factors(view, node)
        if factors is None:
            uncounted.append(view.label(node))
            continue
        open_dims = {_name(i, d): 1 if d in batch or (d is None and not i) else STAND_IN for i, d in _open(factors)}
        assumed |= open_dims
        macs.append((node, prod(d if isinstance(d, int) else open_dims[_name(i, d)] for i, d in enumerate(factors))))
    in_float = [(view.label(node), found) for node, found in macs if not view.runs_int8(node)]
    return Coverage(
        int8_macs=sum(found for node, found in macs if view.runs_int8(node)),
        float_macs=sum(found for _, found in in_float),
        float_nodes=tuple(sorted(in_float, key=lambda row: -row[1])),
        assumed=dict(sorted(assumed.items())),
        uncounted=tuple(uncounted),
    )


def _open(factors: Dims) -> list[tuple[int, str | None]]:
    return [(i, d) for i, d in enumerate(factors) if not isinstance(d, int)]


def _name(index: int, dim: Dim) -> str:
    return str(dim or ("unknown" if index else "unknown first"))


def _factors(view: View, node: ir.Node) -> Dims | None:
    """Returns the sizes whose product is the number of multiply-accumulates, None where a shape is missing.

    By operator, the output's first dimension being the first:

        Conv            output · C_in / g · kernel      weights [C_out, C_in / g, kernel]
        ConvTranspose   input · C_out / g · kernel      weights [C_in, C_out / g, kernel]
        MatMul          output · K, sizes from whichever tensor knows them

    Gemm is as MatMul.
    """
    left, right = (view.dims(value) for value in view.operands(node))
    result = view.dims(node.outputs[0])
    if not left or not right:
        return None
    if op(node) == "ConvTranspose":
        return (*left, *right[1:])
    if op(node) == "Conv":
        return None if result is None else (*result, *right[1:])
    if op(node) == "Gemm":
        across = left[::-1] if number(node, "transA") else left
        down = right[::-1] if number(node, "transB") else right
        return _matrix_product(across, down, result)
    return _matrix_product(left, right, result)


def _matrix_product(left: Dims, right: Dims, result: Dims | None) -> Dims:
    """Returns the sizes of [batch…, M, K] · [batch…, K, N]: batch…, M, N, K. A vector has no M, or no N."""
    m, n = left[-2:-1], right[-1:] if len(right) > 1 else ()
    k = first_known(left[-1], right[-2] if len(right) > 1 else right[-1])
    both = list(zip_longest(left[:-2][::-1], right[:-2][::-1], fillvalue=1))[::-1]
    outer = tuple(a if b == 1 else b if a == 1 else first_known(a, b) for a, b in both)
    sizes = (*outer, *m, *n)
    if result is not None and len(result) == len(sizes):
        sizes = tuple(first_known(a, b) for a, b in zip(sizes, result, strict=True))
    return (*sizes, k)
