"""F1 from counts of what is right, found and expected, [..., 3]; a tally has them for each of K kinds, [N, 3·K]."""

from __future__ import annotations

import numpy as np


def f1(counted: np.ndarray) -> np.ndarray:
    """Returns 2·right / (found + expected) of counts [..., 3]; 1 where nothing is found nor expected."""
    right, both = 2 * counted[..., 0], counted[..., 1] + counted[..., 2]
    return np.asarray(np.divide(right, both, out=np.ones_like(right), where=both > 0))


def by_kind(tally: np.ndarray) -> np.ndarray:
    """Returns tallies [..., 3·K] as [..., K, 3]."""
    return tally.reshape(*tally.shape[:-1], tally.shape[-1] // 3, 3)


def micro_f1(means: np.ndarray) -> np.ndarray:
    """Returns the F1 over all kinds [...] of mean tallies [..., 3·K]."""
    return f1(by_kind(means).sum(-2))


def per_kind(tally: np.ndarray, kinds: list[str]) -> dict[str, float]:
    """Returns {kind: F1} over all samples, of those kinds that are found or expected; tally: [N, 3·K]."""
    sums = by_kind(tally).sum(0)
    return {kind: float(f1(row)) for kind, row in zip(kinds, sums, strict=True) if row.any()}
