"""Which operators of a built engine run in int8, and what share of the arithmetic they are."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

Shape = Sequence[int]

PROFILED_RUNS = 5  # a layer's time is its shortest: a neighbour can only lengthen it

INT8 = ("i8", "u8", "int8", "uint8")
FLOAT = ("f32", "f16", "bf16", "float", "float16", "bfloat16", "f64", "double")


def matmul_flops(a: Shape, b: Shape, out: Shape) -> int:
    """Returns 2·|out|·K of a matrix product a [.., M, K] · b [.., K, N] or [K, N]; b may lie transposed.

    K is read from the sizes where b is one matrix (|b| / N), so a transposed b needs no flag.
    """
    if not out or not a or not b:
        return 0
    inner = prod(b) // out[-1] if len(b) == 2 and out[-1] and prod(b) % out[-1] == 0 else a[-1]
    return 2 * prod(out) * inner


def conv_flops(weights: Shape, out: Shape) -> int:
    """Returns 2·|out|·(Cin/groups)·kernel of a convolution with weights [O, I, k..] or [G, O/G, I/G, k..]."""
    if not out or not weights:
        return 0
    channels = set(out[1:])  # the channel axis is second or, in a channels-last kernel, last
    grouped = weights[0] not in channels and len(weights) > 3 and weights[0] * weights[1] in channels
    return 2 * prod(out) * prod(weights[2:] if grouped or len(weights) == 5 else weights[1:])


def kind(precision: str) -> str:
    """Returns "int8", "float" or "other" (index arithmetic) for a runtime's type name."""
    name = precision.lower()
    if name in INT8:
        return "int8"
    return "float" if name in FLOAT else "other"


def layer(name: str, type_: str, precision: str, kernel: str, flops: int, ms: float | None) -> dict[str, Any]:
    """Returns one entry of `layers`."""
    entry = {"name": name, "type": type_, "precision": precision, "kernel": kernel, "flops": flops}
    return entry if ms is None else {**entry, "ms": round(ms, 4)}


def summarize(layers: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the `precision_report` of report.json.

    int8_flop_share is of multiply-adds in matrix products and convolutions; element-wise work is not counted.
    """
    kinds = [kind(entry["precision"]) for entry in layers]
    total = sum(entry["flops"] for entry in layers)
    int8 = sum(entry["flops"] for entry, its_kind in zip(layers, kinds, strict=True) if its_kind == "int8")
    return {
        "int8_ops": kinds.count("int8"),
        "float_ops": kinds.count("float"),
        "int8_flop_share": int8 / total if total else 0.0,
        "flops": total,
        "layers": layers,
    }
