"""The headline table of the README: ours beside the best of the others, from several files of `bench --record`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.bench.tables._table import Section, Table
from pipeline.bench.tables._words import NONE, by, machine_of

TOGETHER = True
COLUMNS = {  # column: the methods that it is the fastest of
    "float OpenVINO": ("float_openvino",),
    "ONNX Runtime int8": (
        "onnxruntime_static", "onnxruntime_dynamic", "onnxruntime_static_reduce_range",
        "onnxruntime_dynamic_reduce_range",
    ),
    "NNCF int8": ("nncf_openvino", "nncf_openvino_overflow_fix", "nncf_openvino_float_depthwise"),
    "ours, float": ("rewritten_openvino", "rewritten_onnxruntime"),
    "ours, int8": ("ours_openvino", "ours_onnxruntime"),
}  # fmt: skip


def section(*tables: dict[str, Any]) -> Section:
    """Returns a row a table of `bench`: speed-up over float ONNX Runtime, of each kind the fastest method."""
    abouts = [table["environment"] for table in tables]
    dates = sorted({about["date"][:10] for about in abouts})
    commands = ", ".join(f"`{table['command']}`" for table in tables)
    rows = [[_name(table), *(_fastest(table, methods) for methods in COLUMNS.values())] for table in tables]
    return Section(
        "",
        [Table(["speed-up over float ONNX Runtime", *COLUMNS], rows)],
        [f"{machine_of(abouts[0])}, {' and '.join(dates)}: {commands}."],
    )


def _fastest(table: dict[str, Any], methods: Iterable[str]) -> str:
    timed = [row for row in table["methods"] if not row["skipped"] and row["method"] in methods]
    return f"{max(row['speedup']['median'] for row in timed):.2f}" if timed else NONE


def _name(table: dict[str, Any]) -> str:
    """Returns what was timed: "bert-base, 128, batch 8"."""
    shape = next(iter(table["inputs"].values()))
    return f"{table['model'].removeprefix('bench-')}, {by(shape[1:])}, batch {table['batch']}"
