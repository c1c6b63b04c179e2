"""Engines that are wrong on purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Outputs = dict[str, np.ndarray]


class Faulty:
    """An engine whose outputs a fault changes."""

    def __init__(self, engine: Any, fault: Callable[[Outputs], Outputs]) -> None:
        self._engine, self._fault = engine, fault

    def __call__(self, feeds: dict[str, np.ndarray]) -> Outputs:
        return self._fault(self._engine(feeds))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def each(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Outputs], Outputs]:
    """Returns the fault that changes every output alike."""
    return lambda outputs: {name: change(x) for name, x in outputs.items()}
