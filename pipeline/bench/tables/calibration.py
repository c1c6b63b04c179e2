"""The tables of `bench-calibration`: collecting, computing, equality."""

from __future__ import annotations

from typing import Any

from pipeline.bench.tables._table import Section, Table
from pipeline.bench.tables._words import MEBI, NONE, machine_of, source


def section(document: dict[str, Any]) -> Section:
    """Returns the tables of collecting, computing and equality."""
    about, work = document["environment"], document["workload"]
    versions = ", ".join(f"{name} {value}" for name, value in about["versions"].items() if name != "python" and value)
    headline = (
        f"{source(document)}: {document['model']}, random weights and tokens, "
        f"{work['batches']} batches of {work['batch_size']}×{work['tokens']}, {document['quantizers']} activation "
        f"quantizers on {document['statistics']} tensors, {machine_of(about)}, "
        f"{work['rounds']} rounds; {versions}."
    )
    rows = (collecting(document["collecting"]), computing(document["computing"]), equality(document["checks"]))
    return Section(headline, rows)


def collecting(rows: list[dict[str, Any]]) -> Table:
    header = ["collecting", "batches", "seconds", "spread", "× forward", "peak MiB", "MiB a quantizer", "target"]
    return Table(header, [not_run(row) if row["skipped"] else collecting_cells(row) for row in rows])


def collecting_cells(row: dict[str, Any]) -> list[str]:
    seconds, ratio = row["seconds"], row["ratio"]
    return [
        f"{row['label']} ({row['note']})" if row["note"] else row["label"],
        str(row["batches"]),
        f"{seconds['median']:.1f}" if seconds else NONE,
        f"{seconds['low']:.1f}–{seconds['high']:.1f}" if seconds and seconds["low"] < seconds["high"] else NONE,
        f"{ratio['median']:.2f}" if ratio else NONE,
        f"{row['peak'] / MEBI:.0f}",
        NONE if row["growth"] is None else f"{row['growth'] / MEBI:.2f}",
        targets(row),
    ]


def computing(rows: list[dict[str, Any]]) -> Table:
    header = ["computing amax", "tensors", "seconds", "ms a tensor", "× ours", "peak MiB", "target"]
    return Table(header, [not_run(row) if row["skipped"] else computing_cells(row) for row in rows])


def computing_cells(row: dict[str, Any]) -> list[str]:
    return [
        row["label"],
        str(row["tensors"]),
        f"{row['seconds']:.3g}",
        NONE if row["each"] is None else f"{1e3 * row['each']:.3g}",
        NONE if row["ratio"] is None else f"{row['ratio']:.3g}",
        NONE if row["peak"] is None else f"{row['peak'] / MEBI:.0f}",
        targets(row),
    ]


def equality(checks: list[dict[str, Any]]) -> Table:
    header = ["amax against pytorch-quantization's", "quantizers", "largest difference, bins", "within one bin"]
    return Table(header, [equality_cells(check) for check in checks])


def equality_cells(check: dict[str, Any]) -> list[str]:
    if check["skipped"]:
        return [check["method"], NONE, NONE, f"not compared: {check['skipped']}"]
    within = "yes" if check["passed"] else f"no: {check['where']}"
    return [check["method"], str(check["quantizers"]), f"{check['bins']:.2f}", within]


def not_run(row: dict[str, Any]) -> list[str]:
    return [row["label"], f"not run: {row['skipped']}"]


def targets(row: dict[str, Any]) -> str:
    """Returns every target with its limit and whether it was met; sizes in MB."""
    parts = []
    for one in row["targets"]:
        what, limit = one["what"], one["limit"]
        if what.startswith("bytes"):
            what, limit = what.replace("bytes", "MB"), limit / 1e6
        parts.append(f"{what} ≤ {limit:g}: {'met' if one['met'] else 'missed'}")
    return "; ".join(parts) or NONE
