"""Timing as every benchmark does it: in turns, each after a call that is not timed, with a bar."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pipeline.measure import latency
from pipeline.progress import track

SPAN = 0.004  # seconds that one timed run of `in_a_row` takes at least, of the slowest
MOST_CALLS = 100
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


def in_a_row(
    several: Mapping[str, Callable[[int], object]], *, warmup: int, runs: int, what: str = "timing"
) -> tuple[int, latency.Times]:
    """Returns (calls, the seconds of one computation in every timed run), in turns.

    several: by name, what computes so many times in a row and waits for the last. A timed run computes `calls` times:
    submitting and waiting then do not count where the device is slower than they are.
    """
    slowest = 0.0
    for compute in several.values():
        compute(1)
        start = time.perf_counter()
        compute(1)
        slowest = max(slowest, time.perf_counter() - start)
    calls = max(1, min(MOST_CALLS, round(SPAN / max(slowest, 1e-6))))
    together = {name: partial(compute, calls) for name, compute in several.items()}
    times = in_turns(together, warmup=warmup, runs=runs, what=what) if together else {}
    return calls, {name: [seconds / calls for seconds in found] for name, found in times.items()}
