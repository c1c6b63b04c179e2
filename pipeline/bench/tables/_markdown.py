"""What every kind of table is written in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.measure import machine

Table = tuple[Sequence[str], Iterable[Sequence[str]]]  # header, rows


def section(headline: str, tables: Iterable[Table], *closing: str) -> str:
    """Returns a README block: a headline, tables and closing sentences, an empty line between them."""
    return "\n\n".join([headline, *(table(*found) for found in tables), *closing]) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table, without a newline behind it."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def machine_of(about: Mapping[str, Any]) -> str:
    """Returns the processor, its class and the threads of an `environment`; early ones have no class, only flags."""
    found = about.get("processor") or machine.class_of(about["cpu_flags"])
    return f"{about['cpu']} ({found}), {about['threads']} threads"
