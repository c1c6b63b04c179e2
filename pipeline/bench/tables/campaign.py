"""What came of accidents at random, from `make campaign`."""

from __future__ import annotations

from typing import Any

from pipeline.bench.tables._table import Section, Table
from pipeline.bench.tables._words import machine_of, source


def section(document: dict[str, Any]) -> Section:
    """Returns the trials of every part, the faults among them, and what came of them, the commonest first."""
    rows = [
        [part["part"], str(part["trials"]), str(len(part["faults"])), _list(part["outcomes"])]
        for part in document["parts"]
    ]
    headline = f"{source(document)}, {machine_of(document['environment'])}:"
    return Section(headline, [Table(["part", "trials", "faults", "what came of them"], rows)])


def _list(outcomes: dict[str, int]) -> str:
    return "; ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
