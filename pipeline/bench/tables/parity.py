"""False alarms and misses of parity, from `bench-parity`."""

from __future__ import annotations

from typing import Any

from pipeline.bench.parity import SIZES
from pipeline.bench.tables._table import Section, Table
from pipeline.bench.tables._words import source


def section(table: dict[str, Any]) -> Section:
    """Returns the share of one model's faults that were refused, by kind and size."""
    alarms = table["false_alarms"]
    headline = (
        f"{source(table)}, processor class `{table['environment']['processor']}`: int8 engines of "
        f"{' and '.join(table['backends'])}, {table['samples']} held-out samples a trial. Sound engines refused: "
        f"{alarms['refused']} of {alarms['trials']}."
    )
    rows: dict[str, list[str]] = {}
    for fault in table["faults"]:
        rows.setdefault(fault["fault"], [fault["fault"]]).append(f"{fault['refused']} of {fault['trials']}")
    columns = [f"faulty engines refused, {table['model']}", *(f"{size:.0%}" for size in SIZES)]
    return Section(headline, [Table(columns, list(rows.values()))])
