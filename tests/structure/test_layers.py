"""The rooms of `pipeline` stand on floors: nothing imports from a floor above, no two rooms import each other."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from pipeline.stages import code

# from the top floor down; a room imports from lower floors only, imports for type checkers aside
FLOORS = (
    ("__main__",),
    ("cli",),
    ("bench",),
    ("stages",),
    ("model", "report"),
    ("lowering",),
    ("run",),
    ("judge",),
    ("artifacts",),
    ("recipe",),
    ("families",),
    ("tasks",),
    ("backends", "quantization"),
    ("lint",),
    ("graph",),
    ("measure",),
    ("checkpoint", "distributed"),
    ("files", "progress"),
    ("errors",),
)
FLOOR = {room: height for height, rooms in enumerate(reversed(FLOORS)) for room in rooms}
SCRIPTS = "checkpoints"  # what trained the embedded checkpoints uses whatever it needs, and nothing uses it
MOST_ENTRIES = 26


def room_of(file: Path) -> str:
    return file.relative_to(code.ROOT / "pipeline").parts[0].removesuffix(".py")


FILES = sorted(f for f in (code.ROOT / "pipeline").rglob("*.py") if room_of(f) not in (SCRIPTS, "__init__"))


def arrows() -> dict[tuple[str, str], list[str]]:
    """Returns {(room, other room): [file -> what it imports]}."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for file in FILES:
        for name in code.imported(file):
            package, *rest = name.split(".")
            if package == "pipeline" and rest and rest[0] in FLOOR and rest[0] != room_of(file):
                found[room_of(file), rest[0]].append(f"{file.relative_to(code.ROOT)} -> {name}")
    return found


def test_every_room_has_a_floor_and_they_are_few() -> None:
    rooms = {room_of(file) for file in FILES}
    assert rooms == set(FLOOR)
    assert len({p.name for p in (code.ROOT / "pipeline").iterdir() if not p.name.startswith(("__pycache__", "."))}) <= (
        MOST_ENTRIES
    )


def test_no_import_goes_up() -> None:
    up = [line for (room, other), lines in arrows().items() if FLOOR[other] >= FLOOR[room] for line in lines]
    assert not up, "\n".join(up)


def test_calibration_stands_alone() -> None:
    for file in (code.ROOT / "calibration").rglob("*.py"):
        assert not [name for name in code.imported(file) if name.startswith("pipeline")], file
