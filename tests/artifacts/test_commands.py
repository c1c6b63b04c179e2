"""The command lines in messages: quoted for a shell, for the folder they are about, with what is not the default."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts import commands
from pipeline.measure import machine
from pipeline.recipe import Recipe


def recorded(**changes: Any) -> dict[str, Any]:
    """Returns a recipe of BERT as a manifest holds it; `budgets__speedup=1` changes budgets → speedup."""
    document = Recipe.load("bert").model_dump(mode="json")
    for path, value in changes.items():
        *parents, last = path.split("__")
        part = document
        for parent in parents:
            part = part[parent]
        part[last] = value
    return document


def test_a_call_is_quoted_for_a_shell() -> None:
    line = commands.call("engine", Path("a folder"), 3, python="my python")
    assert line == "'my python' -m pipeline engine 'a folder' 3"
    assert commands.call("doctor").endswith(" -m pipeline doctor")


def test_a_verb_on_its_usual_folder_needs_no_more() -> None:
    assert (
        commands.on_folder("engine", Path("exports/bert"), recorded(), python="python")
        == "python -m pipeline engine bert"
    )


def test_a_verb_has_the_folder_and_the_settings_that_differ() -> None:
    made = recorded(checkpoint="my/bert", data="a file.json", backend="openvino", calibration__method="mse",
                    budgets__speedup=2.5, verification__samples=7, colour="red")  # fmt: skip
    line = commands.on_folder("check", Path("out/a b"), made, "--store-baseline", python="python")
    words = shlex.split(line)
    assert words[:5] == ["python", "-m", "pipeline", "check", "bert"] and words[-1] == "--store-baseline"
    pairs = dict(zip(words[5:-1:2], words[6:-1:2], strict=True))
    assert pairs.pop("--set") in ("budgets.speedup=2.5", "verification.samples=7")
    assert pairs == {"--checkpoint": "my/bert", "--data": "a file.json", "--backend": "openvino",
                     "--calibration": "mse", "--output": "out/a b"}  # fmt: skip
    assert words.count("--set") == 2 and "red" not in line, "what recipes have no more is left out"


def test_what_differs_from_the_defaults() -> None:
    assert commands.changed(recorded()) == {}
    assert commands.changed(recorded(budgets__speedup=0.0, data=None)) == {"budgets.speedup": 0.0}
    assert commands.changed(recorded(folder="elsewhere")) == {}, "the folder has an option of its own"


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (None, "null"), ([1, 2], "[1,2]"), ({"a": 1}, '{"a":1}'), ("Straße", '"Straße"')],
)
def test_a_setting_is_written_as_it_is_read(value: Any, text: str) -> None:
    assert commands.as_text(value) == text


def test_leaves_have_dotted_names() -> None:
    assert [*commands.leaves({"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": {}})] == [("a", 1), ("b.c", 2), ("b.d.e", 3)]


def test_make_is_quoted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(machine.CAP, raising=False)
    monkeypatch.setenv("CPU", "avx2")
    assert commands.by_make("engine", {"MODEL": "bert"}, []) == "make engine MODEL=bert"
    line = commands.by_make("bench", {"MODEL": "bert", "DATA": "$HOME/a b"}, ["--set", "a=it's", "--price", "$5"])
    target, *words = shlex.split(line)[1:]
    assert target == "bench" and words[:2] == ["MODEL=bert", "DATA=$$HOME/a b"]
    assert shlex.split(words[2].removeprefix("ARGS=").replace("$$", "$")) == ["--set", "a=it's", "--price", "$5"]


def test_make_names_the_processor_that_it_was_called_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(machine.CAP, "AVX2")
    monkeypatch.setenv("CPU", "avx2")
    assert commands.by_make("bench", {"MODEL": "bert"}, ["-x"]) == "make bench MODEL=bert ARGS=-x CPU=avx2"
    monkeypatch.delenv("CPU")
    assert commands.by_make("bench", {"MODEL": "bert"}, ["-x"]) == "make bench MODEL=bert ARGS=-x"


@pytest.mark.parametrize(
    ("folder", "elsewhere"), [("exports/bert", False), ("exports/other", True), ("bert", True), ("/exports/bert", True)]
)
def test_where_artifacts_land_without_a_word(folder: str, elsewhere: bool) -> None:
    assert commands.is_elsewhere(Path(folder), "bert") is elsewhere


def test_the_interpreter_is_named_as_a_shell_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, other = tmp_path / "here", tmp_path / "other"
    for folder in (here, other):
        folder.mkdir()
        (folder / "python").touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(here / "python3"))
    monkeypatch.setenv("PATH", str(here))
    assert commands.interpreter() == "python"
    monkeypatch.setenv("PATH", str(other))
    assert commands.interpreter() == "here/python3"
    monkeypatch.setenv("PATH", "")
    assert commands.interpreter() == "here/python3"
    monkeypatch.chdir(other)
    assert commands.interpreter() == str(here / "python3")
    monkeypatch.setattr(sys, "executable", "")
    assert commands.interpreter() == "python"
