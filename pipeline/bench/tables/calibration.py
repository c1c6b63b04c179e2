"""The tables of `bench-calibration`, for the README and for the terminal: collecting, computing, equality."""

from __future__ import annotations

from typing import Any

from pipeline.bench.tables import _markdown

Table = tuple[list[str], list[list[str]]]  # header, rows
NONE = "–"


def section(document: dict[str, Any]) -> str:
    """Returns the Markdown of one recorded run."""
    return _markdown.section(headline(document), tables(document))


def headline(document: dict[str, Any]) -> str:
    """Returns what was measured, where and when, in one sentence."""
    about, work = document["environment"], document["workload"]
    versions = ", ".join(f"{name} {value}" for name, value in about["versions"].items() if name != "python" and value)
    return (
        f"`{document['command']}`, {about['date'][:10]}: {document['model']}, random weights and tokens, "
        f"{work['batches']} batches of {work['batch_size']}×{work['tokens']}, {document['quantizers']} activation "
        f"quantizers on {document['statistics']} tensors, {_markdown.machine_of(about)}, "
        f"{work['rounds']} rounds; {versions}."
    )


def tables(document: dict[str, Any]) -> list[Table]:
    """Returns the three tables as text."""
    return [collecting(document["collecting"]), computing(document["computing"]), equality(document["checks"])]


def collecting(rows: list[dict[str, Any]]) -> Table:
    header = ["collecting", "batches", "seconds", "spread", "× forward", "peak MiB", "MiB a quantizer", "target"]
    return header, [not_run(row, len(header)) if row["skipped"] else collecting_cells(row) for row in rows]


def collecting_cells(row: dict[str, Any]) -> list[str]:
    seconds, ratio = row["seconds"], row["ratio"]
    return [
        f"{row['label']} ({row['note']})" if row["note"] else row["label"],
        str(row["batches"]),
        f"{seconds['median']:.1f}" if seconds else NONE,
        f"{seconds['low']:.1f}–{seconds['high']:.1f}" if seconds and seconds["low"] < seconds["high"] else NONE,
        f"{ratio['median']:.2f}" if ratio else NONE,
        f"{row['peak'] / 2**20:.0f}",
        NONE if row["growth"] is None else f"{row['growth'] / 2**20:.2f}",
        targets(row),
    ]


def computing(rows: list[dict[str, Any]]) -> Table:
    header = ["computing amax", "tensors", "seconds", "ms a tensor", "× ours", "peak MiB", "target"]
    return header, [not_run(row, len(header)) if row["skipped"] else computing_cells(row) for row in rows]


def computing_cells(row: dict[str, Any]) -> list[str]:
    return [
        row["label"],
        str(row["tensors"]),
        f"{row['seconds']:.3g}",
        NONE if row["each"] is None else f"{1e3 * row['each']:.3g}",
        NONE if row["ratio"] is None else f"{row['ratio']:.3g}",
        NONE if row["peak"] is None else f"{row['peak'] / 2**20:.0f}",
        targets(row),
    ]


def equality(checks: list[dict[str, Any]]) -> Table:
    header = ["amax against pytorch-quantization's", "quantizers", "largest difference, bins", "within one bin"]
    return header, [
        [check["method"], NONE, NONE, f"not compared: {check['skipped']}"]
        if check["skipped"]
        else [
            check["method"],
            str(check["quantizers"]),
            f"{check['bins']:.2f}",
            "yes" if check["passed"] else f"no: {check['where']}",
        ]
        for check in checks
    ]


def not_run(row: dict[str, Any], columns: int) -> list[str]:
    return [row["label"], f"not run: {row['skipped']}", *[""] * (columns - 2)]


def targets(row: dict[str, Any]) -> str:
    """Returns every target with its limit and whether it was met; sizes in MB."""
    parts = []
    for one in row["targets"]:
        what, limit = one["what"], one["limit"]
        if what.startswith("bytes"):
            what, limit = what.replace("bytes", "MB"), limit / 1e6
        parts.append(f"{what} ≤ {limit:g}: {'met' if one['met'] else 'missed'}")
    return "; ".join(parts) or NONE
