"""Is the engine the graph it was built from? Its outputs against the QDQ graph computed exactly as written.

The two never agree bit for bit: a value on a rounding boundary falls to one side in one runtime and to the
other in the next, one quantization step apart, and the step travels on. That noise is of the size of the
quantization noise itself or below it. A wrong engine (a scale misread, a sign lost, a fusion gone astray) is
off by far more: OpenVINO's fault with signed int8 behind a Concat leaves a cosine of 0.27 on SegFormer's own
head, rounding leaves 0.9997.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

LARGEST_SQNR_DB = 144.5  # 20·log10(2²⁴): float32 resolves nothing finer

# What tells rounding from a wrong engine, for the worst sample of each output.
LIMITS = {
    "cosine": 0.995,  # at least this passes by itself
    "noisy_cosine": 0.9,  # else at least this …
    "noise_share": 0.5,  # … and at most this share of the energy that quantization itself moved
}


def _rows(x: Array) -> NDArray[np.float64]:
    import numpy as np

    return np.asarray(x, dtype=np.float64).reshape(len(x), -1)  # [N, everything else]


def sqnr_db(reference: Array, value: Array) -> float:
    """Returns 10·log10(Σ r² / Σ (r − v)²), at most 144.5 (float32's resolution); NaN if not finite."""
    r, v = _rows(reference), _rows(value)
    signal, noise = float((r**2).sum()), float(((r - v) ** 2).sum())
    if not math.isfinite(signal + noise):
        return math.nan
    if noise == 0:
        return LARGEST_SQNR_DB
    return (
        max(-LARGEST_SQNR_DB, min(LARGEST_SQNR_DB, 10 * math.log10(signal / noise)))
        if signal
        else -LARGEST_SQNR_DB
    )


def cosine(reference: Array, value: Array) -> float:
    """Returns the smallest cosine between one sample's reference and value; NaN for values not finite.

    Two samples that are all zero are equal: 1.
    """
    import numpy as np

    r, v = _rows(reference), _rows(value)
    product = (r * v).sum(1)
    norm = np.sqrt((r**2).sum(1) * (v**2).sum(1))
    same = (r == v).all(1)
    values = np.where(same, 1.0, product / np.where(norm > 0, norm, np.inf))
    return float(values.min())  # NaN wins over every number


def max_abs_diff(reference: Array, value: Array) -> float:
    """Returns the largest absolute difference."""
    import numpy as np

    return float(np.abs(_rows(reference) - _rows(value)).max())


@dataclass(frozen=True)
class Parity:
    """One output of the engine against the exact graph; `reason` says why it is refused, if it is."""

    output: str
    cosine: float
    sqnr_db: float
    max_abs_diff: float
    noise_share: float | None  # None: no float outputs to measure quantization with
    reason: str | None

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "passed": self.reason is None}


def compare(
    exact: Mapping[str, Array], engine: Mapping[str, Array], original: Mapping[str, Array] | None = None
) -> list[Parity]:
    """Returns one Parity per output of the exact graph, refused ones with the reason.

    `original` are the float model's outputs for the same inputs; without them only the cosine decides.
    """
    return [_compare(name, exact[name], engine.get(name), (original or {}).get(name)) for name in exact]


def _compare(name: str, exact: Array, engine: Array | None, original: Array | None) -> Parity:
    import numpy as np

    if engine is None or engine.shape != exact.shape:
        found = "nothing" if engine is None else f"shape {engine.shape}"
        shape = f"the engine gives {found} where the graph gives shape {exact.shape}"
        return Parity(name, math.nan, math.nan, math.nan, None, shape)
    share = None
    if original is not None:
        moved = float(((_rows(exact) - _rows(original)) ** 2).sum())
        noise = float(((_rows(exact) - _rows(engine)) ** 2).sum())
        share = noise / moved if moved else None
    found_cosine = cosine(exact, engine)
    reason: str | None = None
    if not np.isfinite(_rows(engine)).all() and np.isfinite(_rows(exact)).all():
        reason = "the engine gives values that are not finite"
    elif not found_cosine >= LIMITS["cosine"]:
        small = share is not None and share <= LIMITS["noise_share"]
        if not (small and found_cosine >= LIMITS["noisy_cosine"]):
            reason = (
                f"cosine {found_cosine:.4f} to the graph computed exactly is below {LIMITS['cosine']}"
                + ("" if share is None else f", and the difference is {share:.2g} of what quantization moved")
            )
    return Parity(name, found_cosine, sqnr_db(exact, engine), max_abs_diff(exact, engine), share, reason)
