"""How many faults put into the core the unit tests see, from `make mutation`."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from pipeline.bench.tables._table import Section, Table
from pipeline.bench.tables._words import source

COUNTED = ("mutants", "tried", "equal", "killed")


def section(document: dict[str, Any]) -> Section:
    """Returns, room by room and in all, the mutants, those that were tried and those that a test killed."""
    rooms: dict[str, dict[str, int]] = {}
    for module in document["modules"]:
        room = rooms.setdefault(PurePosixPath(module["module"]).parent.as_posix(), dict.fromkeys(COUNTED, 0))
        for key in COUNTED:
            room[key] += module[key]
    total = {key: sum(room[key] for room in rooms.values()) for key in COUNTED}
    rows = [_row(f"`{name}/`", room) for name, room in rooms.items()] + [_row("in all", total)]
    columns = ["where", "mutants", "tried", "no fault", "killed", "share"]
    return Section(f"{source(document)}:", [Table(columns, rows)])


def _row(name: str, counts: dict[str, int]) -> list[str]:
    share = f"{counts['killed'] / counts['tried']:.1%}" if counts["tried"] else "–"
    return [name, *(str(counts[key]) for key in COUNTED), share]
