"""The code that a stage's artifacts depend on: what it imports, found in the source, and a digest of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.stages import code


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


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Returns a function that writes a project's files; '__' stands for the folder separator."""
    monkeypatch.setattr(code, "ROOT", tmp_path)

    def write(**files: str) -> None:
        for name, content in files.items():
            *folders, last = ["pipeline", *name.split("__")]
            path = tmp_path.joinpath(*folders, "__init__.py" if last == "init" else f"{last}.py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    try:
        yield write
    finally:
        code.closure.cache_clear()
        code.imported.cache_clear()


def test_packages_around_a_module_and_the_templates_of_a_package_count(
    source: Callable[..., None], tmp_path: Path
) -> None:
    source(init="", a__init="", a__one="import pipeline.b\n", b__init="", b__other="", c__init="")
    (tmp_path / "pipeline" / "b" / "page.jinja").write_text("<p>")
    (tmp_path / "pipeline" / "c" / "page.jinja").write_text("<p>")
    found = code.closure("pipeline.a.one")
    assert [path.relative_to(tmp_path / "pipeline").as_posix() for path in found] == [
        "__init__.py", "a/__init__.py", "a/one.py", "b/__init__.py", "b/page.jinja",
    ]  # fmt: skip


def test_a_closure_is_in_order_of_name() -> None:
    found = code.closure("pipeline.stages.verify")
    assert len(found) > 50 and list(found) == sorted(found)


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
