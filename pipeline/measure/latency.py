"""Latency of several callables side by side: interleaved runs, percentiles, speed-ups with an interval."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import comb
from typing import Any

Times = dict[str, list[float]]  # seconds per run, in the order of the rounds
CONFIDENCE = 0.95

# Rounds may end early where more of them would change nothing. Only the interval's width decides, at a few fixed
# rounds: the speed-up itself has no say, so the reported interval still covers it (tests/measure/test_latency.py).
LOOKS = (12, 18, 24)
LOOK_CONFIDENCE = 0.99
TIGHT = 0.05  # of the median, from end to end


def interleave(
    candidates: Mapping[str, Callable[[], object]],
    *,
    warmup: int,
    runs: int,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    enough: Callable[[Times], bool] = lambda times: False,
) -> Times:
    """Returns the seconds of every timed run: `runs` rounds in which each candidate runs once.

    A busy neighbour or a changing clock then meets all candidates alike. The order rotates from round to round, so
    that no candidate always runs on another one's warm caches. `enough` is asked after every timed round and may end
    them early (see `is_tight`); `progress` wraps the rounds, with a bar for example.
    """
    names = list(candidates)
    times: Times = {name: [] for name in names}
    for done in progress(range(warmup + runs)):
        first = done % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            candidates[name]()
            seconds = time.perf_counter() - start
            if done >= warmup:
                times[name].append(seconds)
        if done >= warmup and enough(times):
            break
    return times


def is_tight(times: Times, base: str, other: str) -> bool:
    """Returns whether the rounds so far give the speed-up of `other` over `base` within TIGHT; False between LOOKS."""
    if len(times[base]) not in LOOKS:
        return False
    estimate = speedup(times[base], times[other], LOOK_CONFIDENCE)
    return estimate["high"] - estimate["low"] <= TIGHT * estimate["median"]


def quantile(values: Sequence[float], share: float) -> float:
    """Returns the `share` quantile, linear between order statistics (Hyndman and Fan 1996, type 7)."""
    import numpy as np

    return float(np.quantile(values, share))


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Returns {p50, p90, p99, mean} in milliseconds."""
    ms = [1e3 * x for x in seconds]
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    return {**{name: quantile(ms, share) for name, share in shares.items()}, "mean": sum(ms) / len(ms)}


def median_ranks(count: int, confidence: float = CONFIDENCE) -> tuple[int, int]:
    """Returns the 0-based ranks (low, high) of the order statistics between which the median lies.

    For n independent values the number below the median is Binomial(n, ½), so the ranks d and n + 1 − d (from
    1) cover it with 1 − 2·P(B < d), whatever the distribution (Conover, Practical Nonparametric Statistics,
    ch. 3.2). The largest d that still covers is taken; with fewer than 6 values none reaches 95 %, and the
    extremes are returned.
    """
    below, low = 0.0, 0
    for rank in range(count // 2):
        below += comb(count, rank) / 2**count  # P(B <= rank)
        if 2 * below > 1 - confidence:
            break
        low = rank
    return low, count - 1 - low


def speedup(base: Sequence[float], other: Sequence[float], confidence: float = CONFIDENCE) -> dict[str, float]:
    """Returns {median, low, high} of base/other over the rounds, with an interval of the median.

    Raises ValueError when the two were not timed in the same rounds.
    """
    ratios = sorted(a / b for a, b in zip(base, other, strict=True))
    low, high = median_ranks(len(ratios), confidence)
    return {"median": quantile(ratios, 0.5), "low": ratios[low], "high": ratios[high]}


def straddles(estimate: Mapping[str, float], budget: float) -> bool:
    """Returns whether a speed-up's interval holds a budget: more rounds may tell on which side it is."""
    return estimate["low"] < budget <= estimate["high"]


def report(times: Times, base: str, other: str) -> dict[str, Any]:
    """Returns the summaries of every candidate and the speed-up of `other` over `base`."""
    return {
        **{name: summary(values) for name, values in times.items()},
        "speedup": speedup(times[base], times[other]),
    }
