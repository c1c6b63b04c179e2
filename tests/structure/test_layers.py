"""The rooms of `pipeline` stand on floors: nothing imports from a floor above, no two rooms import each other."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from pipeline.stages import code

# from the top floor down; a room imports from lower floors only, imports for type checkers aside
FLOORS = (
    ("__main__",),
    ("cli",),
    ("bench",),
    ("stages",),
    ("model", "report"),
    ("lowering",),
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
MOST_ENTRIES = 25


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


def test_imports_are_seen_wherever_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "pipeline" / "room"
    package.mkdir(parents=True)
    source = (
        "from typing import TYPE_CHECKING\n"
        "import numpy, pipeline.one\n"
        "from pipeline.two import thing\n"
        "from pipeline import three\n"
        "if TYPE_CHECKING:\n    from pipeline.four import Type\n"
        "def late(name):\n    from pipeline.five import late\n    import importlib\n"
        "    importlib.import_module(f'pipeline.six.{name}')\n    importlib.import_module(f'{__name__}.{name}')\n"
    )
    (package / "__init__.py").write_text(source)
    monkeypatch.setattr(code, "ROOT", tmp_path)
    assert code.imported.__wrapped__(package / "__init__.py") == {
        "pipeline.one", "pipeline.two.thing", "pipeline.three", "pipeline.five.late", "pipeline.six.*",
        "pipeline.room.*",
    }  # fmt: skip


@pytest.mark.parametrize("stage", ["quantize", "calibrate", "export", "select", "lower", "engine", "verify"])
def test_a_stages_digest_covers_what_it_imports(stage: str) -> None:
    names = {path.relative_to(code.ROOT).as_posix() for path in code.closure(f"pipeline.stages.{stage}")}
    assert {f"pipeline/stages/{stage}.py", "pipeline/recipe.py", "pipeline/errors.py"} <= names
    assert "pipeline/stages/__init__.py" not in names and not any("/cli/" in name for name in names)
    expected = {
        "quantize": {"pipeline/tasks/_squad.py", "pipeline/families/segformer.py", "pipeline/model/loading.py"},
        "export": {"pipeline/judge/evaluation.py", "calibration/samples/scenes.py", "pipeline/model/float_side.py"},
        "select": {"pipeline/judge/verdict.py", "pipeline/graph/merge.py"},
        "lower": {"calibration/methods.py", "pipeline/judge/parity.py", "pipeline/backends/openvino.py"},
        "engine": {"pipeline/judge/verdict.py", "pipeline/measure/latency.py", "pipeline/tasks/_iou.py"},
        "verify": {"pipeline/report/page.html.jinja", "pipeline/judge/bootstrap.py"},
    }
    assert expected.get(stage, set()) <= names


def test_the_digest_changes_with_any_file_of_the_closure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = tmp_path / "pipeline" / "room"
    room.mkdir(parents=True)
    (tmp_path / "pipeline" / "__init__.py").write_text("")
    (room / "__init__.py").write_text("")
    (room / "page.jinja").write_text("<p>")
    (room / "one.py").write_text("from pipeline.room.two import f\n")
    (room / "two.py").write_text("def f(): return 1\n")
    (room / "three.py").write_text("")
    monkeypatch.setattr(code, "ROOT", tmp_path)

    def digest() -> str:
        code.closure.cache_clear()
        code.imported.cache_clear()
        return code.code_digest("pipeline.room.one")

    try:
        before = digest()
        (room / "three.py").write_text("x = 1\n")
        assert digest() == before
        for changed in (room / "two.py", room / "page.jinja", room / "one.py"):
            last = digest()
            changed.write_text(changed.read_text() + "# another\n")
            assert digest() != last, changed
    finally:
        code.closure.cache_clear()
        code.imported.cache_clear()
