"""The headline table of the README: ours beside the best of the others, from several files of `bench --record`."""

from __future__ import annotations

from typing import Any

from pipeline.bench.tables._markdown import machine_of

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


def section(*documents: list[dict[str, Any]]) -> str:
    """Returns a row a table of `bench`: speed-up over float ONNX Runtime, of each kind the fastest method."""
    tables = [table for document in documents for table in document]
    lines = [f"| speed-up over float ONNX Runtime | {' | '.join(COLUMNS)} |", f"|---|{'---|' * len(COLUMNS)}"]
    for table in tables:
        found = {row["method"]: row["speedup"]["median"] for row in table["methods"] if not row["skipped"]}
        cells = [_cell([found[m] for m in methods if m in found]) for methods in COLUMNS.values()]
        lines.append(f"| {_name(table)} | {' | '.join(cells)} |")
    about = tables[0]["environment"]
    commands = ", ".join(f"`{table['command']}`" for table in tables)
    dates = sorted({table["environment"]["date"][:10] for table in tables})
    return "\n".join([*lines, "", f"{machine_of(about)}, {' and '.join(dates)}: {commands}."]) + "\n"


def _cell(speedups: list[float]) -> str:
    return f"{max(speedups):.2f}" if speedups else "–"


def _name(table: dict[str, Any]) -> str:
    """Returns what was timed: "bert-base, batch 8, 128"."""
    shape = next(iter(table["inputs"].values()))
    size = "×".join(str(n) for n in shape[1:])
    return f"{table['model'].removeprefix('bench-')}, {size}, batch {table['batch']}"
