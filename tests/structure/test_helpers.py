"""What the helpers of tests promise."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.once import once


def ask(base: Path, answers: Any) -> None:
    def fill(folder: Path) -> None:
        with (base / "filled").open("a") as log:
            log.write("x")
        (folder / "file").write_text("whole")

    answers.put((once(SimpleNamespace(getbasetemp=lambda: base), "work", fill) / "file").read_text())  # type: ignore[arg-type]


def test_several_processes_do_the_work_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [context.Process(target=ask, args=(tmp_path, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    assert [answers.get(timeout=60) for _ in processes] == ["whole"] * 3
    for process in processes:
        process.join()
    assert (tmp_path / "filled").read_text() == "x"


def test_work_that_failed_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    factory: Any = SimpleNamespace(getbasetemp=lambda: tmp_path)

    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        once(factory, "work", fail)
    assert list(once(factory, "work", lambda folder: (folder / "file").write_text("whole")).iterdir()) == [
        tmp_path / "once" / "work" / "file"
    ]
