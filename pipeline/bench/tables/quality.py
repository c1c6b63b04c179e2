"""Accuracy by calibration method, from `compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.bench.tables._table import Section, Table
from pipeline.bench.tables._words import ratio_with_interval, source, versions
from pipeline.lowering import Choice

COLUMNS = ("amax by", "drop", "agreement", "SQNR dB", "migrated: drop", "agreement", "SQNR dB")


def section(table: dict[str, Any]) -> Section:
    """Returns drop of the metric, agreement and SQNR, without and with migration, beside the peers."""
    samples, cost = table["samples"], table["migration_cost"]
    headline = (
        f"{source(table)}: {table['metric']} of the float model {table['float']:.4f}, "
        f"{samples['calibration']} calibration and {samples['evaluation']} other samples, through the "
        f"{table['backend']} engine; "
        f"{versions(table['environment'], 'openvino', 'onnxruntime', 'nncf', 'nvidia-modelopt')}."
    )
    notes = []
    if cost:
        ratio = ratio_with_interval(cost["ratio"], 3)
        notes = [f"Latency with migration over without, {cost['runs']} pairs at batch 1: {ratio}."]
    return Section(headline, [Table(COLUMNS, lines(table))], notes)


def lines(table: Mapping[str, Any]) -> list[Sequence[str]]:
    """Returns a row a method: drop, agreement and SQNR without and with migration; then auto's, then the peers'."""
    by_label = {row["label"]: row for row in table["methods"]}
    plain = [row for row in table["methods"] if not row["migration"]]
    rows: list[Sequence[str]] = []
    for row in sorted(plain, key=lambda r: (r["method"] != "max", r["method"] != "percentile", r["percentile"])):
        moved = by_label.get(Choice(row["method"], row["percentile"], True).label)
        rows.append((_name(row), *_cells(row), *_cells(moved)))
    without, moved = table["auto"]
    rows.append(("auto", *_cells(without), *_cells(moved)))
    rows.append(("auto's choice", _name(without), "", "", _name(moved), "", ""))
    for row in table["peers"]:
        missing = f"not run: {row['skipped']}"
        rows.append((row["label"], missing) if row["skipped"] else (row["label"], *_cells(row), *_cells(None)))
    return rows


def _name(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    return f"{row['percentile']:g} %" if row["method"] == "percentile" else str(row["method"])


def _cells(row: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if row is None:
        return ("", "", "")
    return (f"{row['relative_drop']:+.2%}", f"{row['agreement']:.4f}", f"{row['sqnr_db']:.1f}")
