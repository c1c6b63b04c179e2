"""Runners on the same inputs: each is prepared for their shapes and called once before anything is timed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from pipeline.bench import timing


class Engine:
    """Notes what it is asked to do."""

    def __init__(self, name: str, log: list[str]) -> None:
        self._name, self._log = name, log

    def prepare(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._log.append(f"{self._name} prepared for {dict(shapes)}")

    def __call__(self, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        self._log.append(self._name)
        return {"y": 2 * feeds["x"]}


def test_all_are_prepared_then_run_in_turns() -> None:
    log: list[str] = []
    runners = {"a": Engine("a", log), "b": Engine("b", log)}
    times = timing.on_same({"x": np.ones((1, 2))}, runners, warmup=1, runs=2)
    assert log[:4] == ["a prepared for {'x': (1, 2)}", "a", "b prepared for {'x': (1, 2)}", "b"]
    assert log[4:] == ["a", "b", "b", "a", "a", "b"], "the order rotates; one round is warm-up"
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 2, "b": 2}


def test_a_plain_function_needs_no_preparation() -> None:
    assert timing.prepare(lambda feeds: {"y": feeds["x"] + 1}, {"x": np.zeros(1)})["y"] == 1


def test_what_is_short_is_computed_several_times_in_a_row() -> None:
    asked: list[int] = []
    calls, times = timing.in_a_row({"short": asked.append}, warmup=1, runs=3)
    assert asked == [1, 1, *[calls] * 4] and calls == timing.MOST_CALLS
    assert [len(seconds) for seconds in times.values()] == [3] and min(times["short"]) > 0
    assert timing.in_a_row({}, warmup=1, runs=3)[1] == {}


def test_what_is_long_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SPAN", 0.0)
    assert timing.in_a_row({"long": lambda count: None}, warmup=0, runs=1)[0] == 1
