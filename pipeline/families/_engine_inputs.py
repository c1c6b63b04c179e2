"""Checks what an engine is fed: the same for every backend, before any runtime sees it.

Runtimes answer invalid inputs with finite numbers: OpenVINO gathers embeddings for ids outside the vocabulary and takes
a mask of another length. A family says what its inputs are (`input_limits`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import InputError

if TYPE_CHECKING:
    from pipeline.backends import Array


@dataclass(frozen=True)
class Limits:
    """One input. shape: numbers, or names that have one size in all inputs; low, high: of integers, high excluded.

    most: the largest size of a named axis.
    """

    shape: tuple[int | str, ...]
    low: int | None = None
    high: int | None = None
    most: Mapping[str, int] | None = None

    def __str__(self) -> str:
        kind = f"integers from {self.low} to {self.high - 1}" if self.high is not None else "finite floats"
        return f"{kind} [{', '.join(map(str, self.shape))}]"


def check(feeds: Mapping[str, Array], limits: Mapping[str, Limits]) -> None:
    """Raises InputError naming every input of another kind, shape or range, after one pass over each array.

    Inputs without limits are not checked.
    """
    sizes: dict[str, int] = {}
    faults = [
        f"{name}: {fault}; expected {limits[name]}"
        for name, value in feeds.items()
        if name in limits and (fault := _fault(value, limits[name], sizes)) is not None
    ]
    if faults:
        raise InputError("the engine cannot take these inputs:\n  " + "\n  ".join(faults))


def _fault(value: Array, limits: Limits, sizes: dict[str, int]) -> str | None:
    import numpy as np

    array = np.asarray(value)
    if len(array.shape) != len(limits.shape) or 0 in array.shape:
        return f"shape {list(array.shape)}"
    for size, expected in zip(array.shape, limits.shape, strict=True):
        if isinstance(expected, int):
            if size != expected:
                return f"shape {list(array.shape)}"
        elif sizes.setdefault(expected, size) != size:
            return f"{expected} is {size}, but {sizes[expected]} in an earlier input"
        elif limits.most is not None and size > limits.most.get(expected, size):
            return f"{expected} is {size}, {limits.most[expected]} at most"
    if limits.high is not None:
        if array.dtype.kind not in "iub":
            return f"type {array.dtype}"
        lowest, highest = int(array.min()), int(array.max())
        outside = lowest if lowest < (limits.low or 0) else highest
        return f"holds {outside}" if lowest < (limits.low or 0) or highest >= limits.high else None
    if array.dtype.kind != "f":
        return f"type {array.dtype}"
    # finite values have a finite sum unless it overflows: only then is every value checked
    with np.errstate(over="ignore", invalid="ignore"):
        finite = bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())
    return None if finite else "holds NaN or infinite values"
