"""Interleaved timing: every candidate once a round, quantiles as numpy's, intervals that cover."""

from __future__ import annotations

import time
from collections import Counter
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.measure.latency import (
    LOOKS,
    TIGHT,
    Times,
    interleave,
    is_tight,
    median_ranks,
    quantile,
    report,
    speedup,
    straddles,
    summary,
)


def test_rounds_are_interleaved_and_rotate() -> None:
    calls: list[str] = []
    candidates = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    seen: list[int] = []
    times = interleave(candidates, warmup=2, runs=4, progress=lambda rounds: (seen.append(i) or i for i in rounds))
    rounds = ["".join(calls[i : i + 3]) for i in range(0, len(calls), 3)]
    assert rounds == ["abc", "bca", "cab", "abc", "bca", "cab"]
    assert {name: len(values) for name, values in times.items()} == {"a": 4, "b": 4, "c": 4}
    assert seen == list(range(6))


def test_warmup_is_not_counted() -> None:
    pauses = iter([0.05, 0.0, 0.0])
    times = interleave({"slow first": lambda: time.sleep(next(pauses))}, warmup=1, runs=2)
    assert max(times["slow first"]) < 0.05


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=50), st.floats(0, 1))
def test_quantile_is_numpys(values: list[float], share: float) -> None:
    assert quantile(values, share) == pytest.approx(float(np.quantile(values, share)), rel=1e-9)


def test_summary_is_in_milliseconds() -> None:
    found = summary([0.001, 0.002, 0.003])
    assert found == pytest.approx({"p50": 2.0, "p90": 2.8, "p99": 2.98, "mean": 2.0})


@pytest.mark.parametrize("count", [6, 7, 10, 30, 31, 101])
def test_ranks_cover_95_percent_and_no_narrower_ones_do(count: int) -> None:
    def coverage(
        low: int,
    ) -> float:  # P(the median lies between the order statistics low and count − 1 − low)
        return 1 - 2 * sum(comb(count, k) for k in range(low + 1)) / 2**count

    low, high = median_ranks(count)
    assert high == count - 1 - low
    assert coverage(low) >= 0.95 > coverage(low + 1)


def test_few_runs_give_the_extremes() -> None:
    assert [median_ranks(n) for n in (1, 2, 5)] == [(0, 0), (0, 1), (0, 4)]


def test_interval_covers_the_true_ratio_of_noisy_pairs() -> None:
    """A neighbour slows whole rounds: ratios of pairs do not see it, and 95 % of intervals hold the truth."""
    rng = np.random.default_rng(0)
    hits = Counter()
    for _ in range(400):
        neighbour = rng.lognormal(0, 0.5, 30)
        base = 2.0 * neighbour * rng.lognormal(0, 0.1, 30)
        other = 1.0 * neighbour * rng.lognormal(0, 0.1, 30)
        found = speedup(list(base), list(other))
        hits[found["low"] <= 2.0 <= found["high"]] += 1
    assert hits[True] / 400 >= 0.93


def test_speedup_refuses_runs_of_unequal_rounds() -> None:
    with pytest.raises(ValueError, match="zip"):
        speedup([1.0, 2.0], [1.0])


def test_report_has_every_candidate() -> None:
    found = report({"float": [0.004, 0.006], "engine": [0.002, 0.002]}, "float", "engine")
    assert found["speedup"] == {"median": 2.5, "low": 2.0, "high": 3.0}
    assert (found["float"]["p50"], found["engine"]["p50"]) == pytest.approx((5.0, 2.0))


def drawn(generator: np.random.Generator, noise: float, runs: int = 30) -> Times:
    """Returns the times of rounds in which the float model takes twice as long, ended when the speed-up is tight."""
    pairs = 2.0 * np.exp(noise * generator.standard_normal(runs))
    times: Times = {"float": [], "engine": []}
    for ratio in pairs:
        times["float"].append(float(ratio))
        times["engine"].append(1.0)
        if is_tight(times, "float", "engine"):
            break
    return times


def test_rounds_end_early_only_where_the_speedup_is_known() -> None:
    assert len(drawn(np.random.default_rng(0), 0.002)["engine"]) == LOOKS[0]
    assert len(drawn(np.random.default_rng(0), 0.2)["engine"]) == 30
    calls: list[int] = []
    times = interleave({"a": lambda: calls.append(1)}, warmup=2, runs=9, enough=lambda seen: len(seen["a"]) == 4)
    assert len(calls) == 6 and len(times["a"]) == 4


@pytest.mark.parametrize("noise", [0.005, 0.02, 0.03, 0.05, 0.2])
def test_the_interval_covers_the_speedup_where_rounds_may_end_early(noise: float) -> None:
    generator = np.random.default_rng(1)
    found = [speedup(*drawn(generator, noise).values()) for _ in range(2000)]
    assert sum(x["low"] <= 2.0 <= x["high"] for x in found) / len(found) >= 0.94
    early = [x for x in found if x["high"] - x["low"] <= TIGHT * x["median"]]
    assert noise > 0.01 or len(early) == len(found)


def test_an_interval_straddles_a_budget_that_it_holds() -> None:
    found = {"median": 1.0, "low": 0.9, "high": 1.1}
    assert [straddles(found, budget) for budget in (0.0, 0.9, 0.95, 1.1, 1.2)] == [
        False, False, True, True, False,
    ]  # fmt: skip
