"""What a run keeps between its stages: of one origin, and no longer than it is needed."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from pipeline.artifacts import Workspace
from pipeline.recipe import Recipe
from pipeline.run import Kept, Run


def test_a_value_is_made_once_for_each_origin() -> None:
    kept, made = Kept(), iter("abc")
    assert [kept.get("model", origin, lambda: next(made)) for origin in (1, 1, 2, 1)] == ["a", "a", "b", "c"]
    assert kept.find("model", 1) == "c" and kept.find("model", 2) is None and kept.find("samples", 1) is None


def test_the_old_value_is_gone_before_the_new_one_is_made() -> None:
    kept = Kept()
    kept.keep("model", 1, "old")

    def make() -> str:
        assert kept.find("model", 1) is None
        return "new"

    assert kept.get("model", 2, make) == "new"


def test_a_fault_keeps_nothing() -> None:
    kept = Kept()
    with pytest.raises(ZeroDivisionError, match="by zero"):
        kept.get("model", 1, lambda: 1 / 0)
    assert kept.find("model", 1) is None


def store(kept: Kept, origin: int, inside: Path) -> Path:
    """Returns the folder of one origin, a file in it."""

    def make() -> Path:
        path = kept.folder("samples", inside)
        (path / "a").write_text("x", encoding="utf-8")
        return path

    return kept.get("samples", origin, make)


def test_a_folder_goes_with_what_is_in_it(tmp_path: Path) -> None:
    kept = Kept()
    first = store(kept, 1, tmp_path)
    assert first.match(".*.partial"), "what a killed run leaves is removed"
    assert store(kept, 1, tmp_path) == first and first.exists()
    second = store(kept, 2, tmp_path)
    assert list(tmp_path.iterdir()) == [second]
    kept.drop("samples")
    assert not list(tmp_path.iterdir())


def test_a_folder_goes_with_its_run(tmp_path: Path) -> None:
    def run() -> None:
        with Kept() as kept:
            store(kept, 1, tmp_path)
            raise KeyboardInterrupt("by hand")

    with pytest.raises(KeyboardInterrupt, match="by hand"):
        run()
    assert not list(tmp_path.iterdir())
    kept = Kept()
    store(kept, 1, tmp_path)
    del kept
    gc.collect()
    assert not list(tmp_path.iterdir()), "of a run that nobody ended"


def test_other_settings_of_a_run_share_what_it_keeps(tmp_path: Path) -> None:
    run = Run(Recipe.load("bert", overrides={"folder": tmp_path}), Workspace(tmp_path))
    assert run.on("onnxruntime").kept is run.kept and Run.of(run).kept is run.kept
    assert Run.of(run.recipe).kept is not run.kept
