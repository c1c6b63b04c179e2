"""What a number of samples can prove: the interval of a drop, and whether the float model is above chance.

Both come from the paired bootstrap (Efron 1979): the samples are drawn again, with replacement, and the metric of two
models is taken on the same draws. A task's metric is a function of the mean over samples of its `tally`, so a draw is a
vector of weights and all draws are one matrix product.

Its limit: samples whose answers did not change say nothing about those that would. With a handful of changed answers
the interval is too narrow (one lost answer in fifty, 200 samples: it holds the truth 85 times in 100), and with none it
is 0 to 0, though 3 in N may still be lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.tasks import Task

    Array = NDArray[np.generic]
    Floats = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 1000
SEED = 0
AT_ONCE = 100  # draws: weights of 1000 draws from 100 000 samples would be 800 MB


def metric(task: Task, tally: Array) -> Floats:
    """Returns the metric [...] of mean tallies [...] or [..., K]; of tallies themselves, each sample's metric [N]."""
    import numpy as np

    return np.asarray(task.metric(tally), dtype=np.float64)


def score(task: Task, tally: Array) -> float:
    """Returns the metric of all samples; tally: [N] or [N, K]."""
    return float(metric(task, tally.mean(0)))


def resampled(task: Task, *tallies: Array) -> list[Floats]:
    """Returns the metric of every tally on RESAMPLES draws of its samples, the same draws for all, [RESAMPLES] each."""
    import numpy as np

    rng, samples = np.random.default_rng(SEED), len(tallies[0])
    chunks: list[list[Floats]] = [[] for _ in tallies]
    for start in range(0, RESAMPLES, AT_ONCE):
        draws = min(AT_ONCE, RESAMPLES - start)
        weights = rng.multinomial(samples, np.full(samples, 1 / samples), size=draws) / samples  # [draws, N]
        for parts, tally in zip(chunks, tallies, strict=True):
            parts.append(metric(task, weights @ tally.astype(np.float64)))
    return [np.concatenate(parts) for parts in chunks]


def interval(values: Floats) -> tuple[float, float]:
    """Returns the ends of the middle LEVEL of the values."""
    import numpy as np

    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def drop_interval(task: Task, before: Array, after: Array) -> dict[str, Any]:
    """Returns the interval of the drop from `before` to `after`, absolute and relative to the metric before.

    A draw whose metric before is 0 has the relative drop 0, or 1 where the metric fell below 0.
    """
    import numpy as np

    first, second = resampled(task, before, after)
    drops = first - second
    relative = np.where(first != 0, drops / np.where(first != 0, np.abs(first), 1), drops > 0)
    (low, high), (relative_low, relative_high) = interval(drops), interval(relative)
    return {
        "low": low, "high": high, "relative_low": relative_low, "relative_high": relative_high,
        "level": LEVEL, "resamples": RESAMPLES,
    }  # fmt: skip


def above_chance(task: Task, tally: Array, blind: Mapping[str, Array]) -> dict[str, Any]:
    """Returns the best answer that needs no look at the input, and how far the float model is above it.

    tally: the float model's; blind: {answer: tally}. low, high: the interval of the difference.
    """
    scores = {answer: score(task, other) for answer, other in blind.items()}
    best = max(scores, key=lambda answer: scores[answer])
    model, other = resampled(task, tally, blind[best])
    low, high = interval(model - other)
    return {"answer": best, "score": scores[best], "low": low, "high": high, "level": LEVEL}


def samples_to_decide(drop: float, interval: tuple[float, float], budget: float, samples: int) -> int | None:
    """Returns about how many samples shrink an interval until the budget, now inside it, is at its end.

    The distance from the drop to an end shrinks with the root of the samples. None where the budget is outside, or
    equals the drop, which no number decides.
    """
    low, high = interval
    if not low <= budget < high or drop == budget:
        return None
    reach = high - drop if drop < budget else drop - low
    return max(samples + 1, math.ceil(samples * (reach / abs(budget - drop)) ** 2))
