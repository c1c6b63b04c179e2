"""What one quantizer has seen: a mergeable histogram of |x|, its exact amax and a few counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.arithmetic import SMALLEST_AMAX
from calibration.binning import (
    ArrayLike,
    Counts,
    UnusableValues,
    coarsen,
    count,
    exponent_for,
    extremes,
    flatten,
    require,
)
from calibration.errors import CalibrationError


class Statistic:
    """A histogram of |x| in `bins` bins whose width is the smallest power of two that covers amax.

    The state is a pure function of the multiset of values: order, batch sizes and how the data were split over
    processes do not matter, and `a.merge(b)` equals feeding both. Memory stays at 8·(bins + 1) bytes.

    Invariants: `counts.sum() == elements`; the highest used bin holds `amax`; `counts[0]` counts exact zeros.
    """

    def __init__(self, bins: int = 2048, *, name: str | None = None) -> None:
        if not 2 <= bins <= 65536 or bins & (bins - 1):
            raise CalibrationError(f"bins = {bins}: a power of two from 2 to 65536 is needed (2048 is usual)")
        self.bins = bins
        self.name = name
        self.amax = 0.0
        self.batches = 0
        self.has_negative = False
        self.counts: Counts = np.zeros(bins + 1, np.int64)

    @property
    def elements(self) -> int:
        """How many values were collected."""
        return int(self.counts.sum())

    @property
    def zeros(self) -> int:
        """How many values were exactly zero."""
        return int(self.counts[0])

    @property
    def width(self) -> float:
        """Width of a bin, a power of two; bin i ≥ 1 holds the values in ((i − 1)·width, i·width]."""
        return float(2.0**self._exponent)

    @property
    def is_degenerate(self) -> str | None:
        """Why no amax can be computed, or None. A degenerate quantizer stays float, and the report says so."""
        if self.batches == 0:
            return "was never reached by the calibration data"
        if self.amax == 0.0:
            return f"saw nothing but zeros in all {self.elements} values"
        if self.amax < SMALLEST_AMAX:
            return f"has amax {self.amax:g}, too small for a float32 scale"
        return None

    def histogram(self) -> npt.NDArray[np.float64]:
        """Returns the counts of bins 1 to the highest used one, the zeros added to the first.  # [used]"""
        used = int(np.ceil(self.amax / self.width))
        bins = self.counts[1 : used + 1].astype(np.float64)
        if used:
            bins[0] += self.counts[0]
        return bins

    @property
    def label(self) -> str:
        """The quantizer's name in messages."""
        return f"quantizer {self.name!r}" if self.name else "quantizer"

    def collect(self, x: ArrayLike) -> None:
        """Adds one batch, a float tensor on any device or a float array. Others raise CalibrationError uncounted."""
        try:
            flat = flatten(x)
            low, high = extremes(flat)
        except UnusableValues as fault:
            raise CalibrationError(
                f"{self.label}: batch {self.batches + 1} {fault}. Nothing of this batch was counted. "
                "Look at this batch of the calibration data, then at the layer in front of the quantizer."
            ) from None
        self._grow(max(-low, high))
        self.counts += count(flat, self._exponent, self.bins)
        self.has_negative |= low < 0.0
        self.batches += 1

    def merge(self, other: Statistic) -> Statistic:
        """Returns this statistic after adding all that `other` has seen; `other` stays as it is."""
        if other.bins != self.bins:
            raise CalibrationError(
                f"{self.label}: {self.bins} bins cannot be merged with {other.bins}; use the same number"
            )
        self._grow(other.amax)
        self.counts[0] += other.counts[0]
        self.counts[1:] += coarsen(other.counts[None, 1:], [self._exponent - other._exponent])[0]
        self.has_negative |= other.has_negative
        self.batches += other.batches
        return self

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Returns the whole state as arrays, for a file or another process."""
        return {
            "counts": self.counts.copy(),
            "amax": np.array(self.amax, np.float32),
            "has_negative": np.array(self.has_negative),
            "batches": np.array(self.batches, np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], *, name: str | None = None) -> Statistic:
        """Returns the statistic that `to_arrays` wrote. Raises CalibrationError for arrays that are not one."""
        label = f"statistic of quantizer {name!r}" if name else "statistic"
        require(arrays, {"counts", "amax", "has_negative", "batches"}, label)
        counts = np.asarray(arrays["counts"])
        if counts.ndim != 1 or counts.dtype != np.int64 or counts.size < 3:
            raise CalibrationError(f"{label}: counts is {counts.dtype}{list(counts.shape)}, not int64[bins + 1]")
        result = cls(counts.size - 1, name=name)
        result.counts = counts.copy()
        result.amax = float(arrays["amax"])
        result.has_negative = bool(arrays["has_negative"])
        result.batches = int(arrays["batches"])
        fault = result._broken_invariant()
        if fault:
            raise CalibrationError(f"{label}: {fault}; collect it again")
        return result

    def __eq__(self, other: object) -> bool:
        """Whether both have seen the same values; names and numbers of batches do not matter."""
        if not isinstance(other, Statistic):
            return NotImplemented
        return (
            self.amax == other.amax
            and self.has_negative == other.has_negative
            and np.array_equal(self.counts, other.counts)
        )

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        name = f"{self.name!r}, " if self.name else ""
        return (
            f"Statistic({name}amax={self.amax:g}, elements={self.elements}, batches={self.batches}, bins={self.bins})"
        )

    @property
    def _exponent(self) -> int:
        return int(exponent_for(self.amax, self.bins))

    def _grow(self, amax: float) -> None:
        if amax > self.amax:
            before = self._exponent
            self.amax = amax
            self.counts[1:] = coarsen(self.counts[None, 1:], [self._exponent - before])[0]

    def _broken_invariant(self) -> str | None:
        if not (np.isfinite(self.amax) and self.amax >= 0.0 and self.amax == float(np.float32(self.amax))):
            return f"amax {self.amax} is not a finite, non-negative float32"
        if self.batches < 0 or (self.counts < 0).any():
            return "counts or batches are negative"
        if (self.batches == 0) != (self.elements == 0):
            return f"{self.elements} elements in {self.batches} batches"
        used = np.flatnonzero(self.counts)
        highest = int(used[-1]) if used.size else 0
        if highest != int(np.ceil(self.amax * 2.0**-self._exponent)):
            return f"amax {self.amax:g} does not lie in the highest used bin, {highest}"
        return None
