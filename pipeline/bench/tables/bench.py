"""The table of `bench`: every method, from slow to fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.bench.tables._table import Section, Table
from pipeline.bench.tables._words import by, interval, machine_of, source, versions


def section(table: dict[str, Any]) -> Section:
    """Returns latency, speed-up with its interval, and how close the outputs are to float's."""
    return _section(table, ("p50",))


def details(table: dict[str, Any]) -> Section:
    """Returns the same with the latency of the slow runs."""
    return _section(table, ("p50", "p90"))


def _section(table: dict[str, Any], shares: Sequence[str]) -> Section:
    about, shape = table["environment"], next(iter(table["inputs"].values()))
    headline = (
        f"{source(table)}: input {by(shape)}, {machine_of(about)}, {table['runs']} interleaved rounds; "
        f"{versions(about, 'onnxruntime', 'openvino')}."
    )
    columns = ["method", *(f"{share} ms" for share in shares), "speed-up", "95 % interval", "agreement with float"]
    rows = sorted(table["methods"], key=lambda row: -row.get("latency", {}).get("p50", 0))  # slow to fast
    return Section(headline, [Table([*columns, "cosine"], [_cells(row, shares) for row in rows])])


def _cells(row: dict[str, Any], shares: Sequence[str]) -> list[str]:
    if row["skipped"]:
        return [row["label"], f"not run: {row['skipped']}"]
    ms, ratio, fit = row["latency"], row["speedup"], row["accuracy"]
    figures = [*(f"{ms[share]:.1f}" for share in shares), f"{ratio['median']:.2f}", interval(ratio)]
    return [row["label"], *figures, f"{fit['agreement']:.4f}", f"{fit['cosine']:.4f}"]
