"""Timing as every benchmark does it: in turns, each after a call that is not timed, with a bar."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pipeline.measure import latency
from pipeline.progress import track

Runner = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def prepare(runner: Runner, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the outputs of the first call on `feeds`; later calls with such shapes are as fast as they get."""
    if hasattr(runner, "prepare"):
        runner.prepare({name: value.shape for name, value in feeds.items()})
    return runner(feeds)


def on_same(
    feeds: Mapping[str, Any], runners: Mapping[str, Runner], *, warmup: int, runs: int, what: str = "timing"
) -> latency.Times:
    """Returns the seconds of every timed run of runners on the same inputs, each prepared first."""
    for runner in runners.values():
        prepare(runner, feeds)
    calls = {name: partial(runner, feeds) for name, runner in runners.items()}
    return in_turns(calls, warmup=warmup, runs=runs, what=what)


def in_turns(
    calls: Mapping[str, Callable[[], object]], *, warmup: int, runs: int, what: str = "timing"
) -> latency.Times:
    """Returns the seconds of every timed run (`latency.interleave`). what: the bar's label."""
    return latency.interleave(
        calls, warmup=warmup, runs=runs, progress=lambda rounds: track(rounds, what, warmup + runs)
    )
