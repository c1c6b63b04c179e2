"""The table of killed mutants."""

from __future__ import annotations

from typing import Any

from pipeline.bench.tables import mutation


def module(name: str, mutants: int, tried: int, equal: int, killed: int) -> dict[str, Any]:
    return {"module": name, "mutants": mutants, "tried": tried, "equal": equal, "killed": killed, "survived": []}


def test_a_rooms_modules_are_counted_together() -> None:
    modules = [
        module("calibration/a.py", 30, 20, 2, 19),
        module("calibration/b.py", 10, 10, 0, 9),
        module("pipeline/judge/c.py", 7, 0, 0, 0),
    ]
    about = {"date": "2026-11-27T10:00"}
    found = mutation.section({"command": "make mutation", "environment": about, "modules": modules}).markdown()
    assert found.splitlines() == [
        "`make mutation`, 2026-11-27:",
        "",
        "| where | mutants | tried | no fault | killed | share |",
        "|---|---|---|---|---|---|",
        "| `calibration/` | 40 | 30 | 2 | 28 | 93.3% |",
        "| `pipeline/judge/` | 7 | 0 | 0 | 0 | – |",
        "| in all | 47 | 30 | 2 | 28 | 93.3% |",
    ]
