"""What every quantizer, layer and kind costs in accuracy, from `sensitivity`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.bench.tables._table import Section, Table
from pipeline.bench.tables._words import machine_of, source

TITLES = {"kind": "Kinds of operator", "layer": "Layers", "quantizer": "Quantizers"}
MOST = 20  # rows of a table on a page and a terminal; the file has all


def section(table: dict[str, Any]) -> Section:
    """Returns a table a scope, the parts that cost most first."""
    whole, metric = table["whole"], table["metric"]
    headline = (
        f"{source(table)}: {table['model']} on {table['backend']}, {table['calibration']}, {table['samples']} samples, "
        f"{machine_of(table['environment'])}. All quantizers on: {whole['int8']['sqnr_db']:.1f} dB to the float model, "
        f"{metric} {whole['int8']['metric']:.4f} (float {whole['float']['metric']:.4f}), agreement "
        f"{whole['int8']['agreement']:.4f}."
    )
    columns = (
        "",
        "kind",
        "quantizers",
        "gain dB when off",
        f"{metric} when off",
        "agreement when off",
        "dB when alone on",
    )
    tables = []
    for scope, title in TITLES.items():
        rows = ranked(table["rows"], scope)
        more = f", the first {MOST} of {len(rows)}" if len(rows) > MOST else ""
        tables.append(Table(columns, [cells(row) for row in rows[:MOST]], f"{title}{more}"))
    notes = [] if table["finished"] else ["Not finished: the same command goes on."]
    return Section(headline, [one for one in tables if one.rows], notes)


def ranked(rows: Sequence[Mapping[str, Any]], scope: str) -> list[Mapping[str, Any]]:
    """Returns the rows of a scope; first the one without which the model gains most."""
    return sorted((row for row in rows if row["scope"] == scope), key=lambda row: -float(row["gain_db"]))


def cells(row: Mapping[str, Any]) -> list[str]:
    return [
        row["name"],
        row["kind"],
        str(row["quantizers"]),
        f"{row['gain_db']:+.2f}",
        f"{row['off']['metric']:.4f}",
        f"{row['off']['agreement']:.4f}",
        f"{row['on']['sqnr_db']:.1f}",
    ]
