"""What is printed on a terminal and into a file."""

from __future__ import annotations

import os
import pty
import sys
from typing import Any

import pytest

from pipeline.bench import tables
from pipeline.bench.tables._table import Section, Table
from pipeline.cli import show

LONG = "not run: " + "this method has a very long reason " * 4
SECTION = Section(
    "`make bench`, on a machine.",
    [
        Table(
            ["engine", "ms", "remark"],
            [["ours [fast]", "9.5", "as expected"], ["the other engine", "10.25", "slow"], ["third", LONG]],
        )
    ],
    ["A closing sentence."],
)


@pytest.fixture
def section(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "shown", lambda kind, document: SECTION)


def on_a_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the lines that `recorded` prints on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(theirs, "w", encoding="utf-8") as screen:
        monkeypatch.setattr(sys, "stdout", screen)
        show.recorded("bench", {}, as_json=False)
        print("END", flush=True)
        with os.fdopen(ours, encoding="utf-8") as shown:
            return [line.rstrip("\n") for line in iter(shown.readline, "END\n")]


def test_a_file_gets_whole_lines_with_figures_to_the_right(section: None, capsys: pytest.CaptureFixture[str]) -> None:
    show.recorded("bench", {}, as_json=False)
    headline, empty, header, rule, ours, other, third, between, note = capsys.readouterr().out.splitlines()
    assert headline == "make bench, on a machine." and empty == between == "" and note == "A closing sentence."
    assert header == "engine                ms   remark" and set(rule) == {"─"}
    assert ours == "ours [fast]          9.5   as expected", "brackets are no markup"
    assert other == "the other engine   10.25   slow"
    assert third == f"third  {LONG.rstrip()}", "a reason does not widen the columns"


def test_a_terminal_gets_lines_of_its_width(section: None, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = on_a_terminal(40, monkeypatch)
    shown = [line.replace("\x1b[1m", "").replace("\x1b[0m", "") for line in lines]
    assert max(map(len, shown)) <= 40
    assert shown[4] == "ours [fast]          9.5   as expected"
    reason = shown[6:-2]
    assert [line[:7].strip() for line in reason] == ["third", *[""] * (len(reason) - 1)], "a reason hangs"
    assert " ".join(line[7:] for line in reason) == LONG.rstrip()


def test_json_is_the_document_alone(capsys: pytest.CaptureFixture[str]) -> None:
    document: dict[str, Any] = {"methods": []}
    show.recorded("bench", document, as_json=True)
    assert capsys.readouterr().out == '{\n "methods": []\n}\n'
