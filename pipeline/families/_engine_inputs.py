"""What an engine may be fed, and arrays held against it: the same for every backend, before any runtime sees them.

Runtimes answer to much that is no input: OpenVINO gathers embeddings of ids that there are none of, and takes a mask of
another length, with finite numbers. A family says what its inputs are (`input_limits`).
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
    """One input. shape: a number, or a name that has one size in all inputs; low, high: of integers, high excluded.

    most: the largest size that a name may have.
    """

    shape: tuple[int | str, ...]
    low: int | None = None
    high: int | None = None
    most: Mapping[str, int] | None = None

    def __str__(self) -> str:
        kind = f"integers from {self.low} to {self.high - 1}" if self.high is not None else "finite floats"
        return f"{kind} [{', '.join(map(str, self.shape))}]"


def check(feeds: Mapping[str, Array], limits: Mapping[str, Limits]) -> None:
    """Raises InputError naming every input that is of another kind, shape or range, after one pass over each array.

    Inputs without limits pass unseen.
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

    found = np.asarray(value)
    if len(found.shape) != len(limits.shape) or 0 in found.shape:
        return f"shape {list(found.shape)}"
    for size, expected in zip(found.shape, limits.shape, strict=True):
        if isinstance(expected, int):
            if size != expected:
                return f"shape {list(found.shape)}"
        elif sizes.setdefault(expected, size) != size:
            return f"{expected} is {size}, that of the inputs before is {sizes[expected]}"
        elif limits.most is not None and size > limits.most.get(expected, size):
            return f"{expected} is {size}, {limits.most[expected]} at most"
    if limits.high is not None:
        if found.dtype.kind not in "iub":
            return f"type {found.dtype}"
        lowest, highest = int(found.min()), int(found.max())
        outside = lowest if lowest < (limits.low or 0) else highest
        return f"holds {outside}" if lowest < (limits.low or 0) or highest >= limits.high else None
    if found.dtype.kind != "f":
        return f"type {found.dtype}"
    # a sum is finite where all summands are, or overflows: then every one is looked at
    with np.errstate(over="ignore", invalid="ignore"):
        whole = bool(np.isfinite(found.sum())) or bool(np.isfinite(found).all())
    return None if whole else "holds NaN or infinite values"
