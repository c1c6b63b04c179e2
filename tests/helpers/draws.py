"""Random numbers that depend on the test alone, not on those that ran before it in the same process."""

from __future__ import annotations

import numpy as np

_generators = [np.random.default_rng(0)]


def restart() -> None:
    """Every test begins with it (see conftest.py)."""
    _generators[0] = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    """Returns standard normal numbers, float32, others at every call in a test."""
    return _generators[0].standard_normal(shape).astype(np.float32)
