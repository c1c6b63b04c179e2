"""False alarms and misses of parity, from `bench-parity --record`."""

from __future__ import annotations

from typing import Any

from pipeline.bench.parity import SIZES


def section(tables: list[dict[str, Any]]) -> str:
    """Returns one table a model: the share of faults that were refused, by kind and size."""
    return "\n".join(_section(table) for table in tables)


def _section(table: dict[str, Any]) -> str:
    about, alarms = table["environment"], table["false_alarms"]
    text = [
        f"`{table['command']}`, {about['date'][:10]}, processor class `{about['processor']}`: int8 engines of "
        f"{' and '.join(table['backends'])}, {table['samples']} held-out samples a trial. Sound engines refused: "
        f"{alarms['refused']} of {alarms['trials']}.",
        "",
        f"| faulty engines refused, {table['model']} | {' | '.join(f'{size:.0%}' for size in SIZES)} |",
        f"|---|{'---|' * len(SIZES)}",
        *("| " + " | ".join(row) + " |" for row in rows(table)),
    ]
    return "\n".join(text) + "\n"


def rows(table: dict[str, Any]) -> list[list[str]]:
    """Returns a row a kind of fault: its name, and "refused of trials" by size."""
    found: dict[str, list[str]] = {}
    for fault in table["faults"]:
        found.setdefault(fault["fault"], []).append(f"{fault['refused']} of {fault['trials']}")
    return [[kind, *cells] for kind, cells in found.items()]
