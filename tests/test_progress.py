"""Progress on a terminal: the stage, its number, the time; nothing in a file."""

from __future__ import annotations

import io
import sys
import time

import pytest

from pipeline import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Returns what is a terminal in place of stderr from now on."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def test_a_stage_says_its_number_and_the_time_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    with progress.stage("export", 3, 6, time.monotonic() - 65):
        assert list(progress.track(range(3), "[timing]", 3)) == [0, 1, 2]
        print("a line meanwhile", file=sys.stderr)
    shown = terminal.getvalue()
    assert "stage 3 of 6: export" in shown and "0:00, 1:05 in all" in shown and "a line meanwhile" in shown
    assert "[timing]" in shown and "0 of 3" in shown and not progress._shown


def test_a_stage_alone_has_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    with progress.stage("verify"):
        pass
    assert "verify" in terminal.getvalue() and " of " not in terminal.getvalue()


def test_a_fault_leaves_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    with pytest.raises(RuntimeError, match="fault"), progress.stage("export", 3, 6, time.monotonic()):
        raise RuntimeError("fault")
    assert not progress._shown and sys.stderr is terminal


def test_nothing_is_shown_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    with progress.stage("export", 3, 6, 0.0):
        assert list(progress.track("ab", "letters", 2)) == ["a", "b"]
    assert file.getvalue() == ""
