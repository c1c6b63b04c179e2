"""What one quantizer has seen, channel by channel: a mergeable histogram of |x| and the exact amax of every channel.

It tells what the tensor would look like with its channels divided by any factors, without another look at the data,
which is what outlier migration (calibration/migration.py) needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.binning import ArrayLike, Counts, UnusableValues, check_floats, coarsen, exponent_for, require
from calibration.channel_binning import Axis, channel_amax, channels_along, count_channels
from calibration.errors import CalibrationError

Floats = npt.NDArray[np.float32]

_CELLS = 1 << 17  # of a histogram: 1 MiB
_MOST_BINS, _FEWEST_BINS = 64, 8


class ChannelStatistic:
    """A histogram of |x| per channel, in bins whose width is the smallest power of two that covers the channel's amax.

    As in `Statistic`, the state is a pure function of the values of each channel, and merging is exact. The number of
    bins depends on the number of channels: 64 for up to 2048 channels, then fewer, to stay within 1 MiB; 8 from 16384
    channels on, which is 64 bytes per channel.

    Invariants: every row of `counts` has the same sum; its highest used bin holds the channel's amax.
    """

    def __init__(self, channels: int, *, name: str | None = None) -> None:
        if channels < 1:
            raise CalibrationError(f"channels = {channels}: at least one is needed")
        self.channels = channels
        self.name = name
        self.bins = bins_for(channels)
        self.amax: Floats = np.zeros(channels, np.float32)
        self.counts: Counts = np.zeros((channels, self.bins), np.int64)

    @property
    def widths(self) -> npt.NDArray[np.float64]:
        """Bin width per channel, powers of two; bin i ≥ 0 holds the values in (i·width, (i + 1)·width], 0 in bin 0."""
        return np.ldexp(1.0, self._exponents)

    @property
    def elements(self) -> int:
        """How many values were collected in all channels together."""
        return int(self.counts.sum())

    def collect(self, x: ArrayLike, axis: Axis) -> None:
        """Adds one batch of finite values whose channels lie along `axis`; others are refused and leave no trace."""
        label = f"quantizer {self.name!r}" if self.name else "quantizer"
        try:
            check_floats(x)
            if not all(-x.ndim <= a < x.ndim for a in np.atleast_1d(axis)) or channels_along(x, axis) != self.channels:
                raise UnusableValues(
                    f"of shape {tuple(x.shape)} does not have {self.channels} channels along axis {axis}"
                )
            self._grow(channel_amax(x, axis))
        except UnusableValues as fault:
            raise CalibrationError(f"{label}: a batch {fault}. Nothing of it was counted.") from None
        self.counts += count_channels(x, axis, self._exponents, self.bins)

    def merge(self, other: ChannelStatistic) -> ChannelStatistic:
        """Returns this statistic after adding all that `other` has seen; `other` stays as it is."""
        if other.channels != self.channels:
            raise CalibrationError(f"{self!r} cannot be merged with {other!r}: the numbers of channels differ")
        self._grow(other.amax)
        self.counts += coarsen(other.counts, self._exponents - other._exponents)
        return self

    def second_moment(self) -> npt.NDArray[np.float64]:
        """Returns the mean of x² per channel, taking values as spread evenly over their bins.  # [C]"""
        edges = np.arange(self.bins + 1.0)
        mean_square = np.diff(edges**3) / 3.0  # of a bin (i, i + 1], in units of its width
        return np.asarray(self.counts @ mean_square / np.maximum(self.counts.sum(axis=1), 1) * self.widths**2)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Returns the whole state as arrays, for a file or another process."""
        return {"amax": self.amax.copy(), "counts": self.counts.copy()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], *, name: str | None = None) -> ChannelStatistic:
        """Returns the statistic that `to_arrays` wrote. Raises CalibrationError for arrays that are not one."""
        label = f"channel statistic of quantizer {name!r}" if name else "channel statistic"
        require(arrays, {"amax", "counts"}, label)
        amax, counts = np.asarray(arrays["amax"]), np.asarray(arrays["counts"])
        if amax.ndim != 1 or not len(amax) or amax.dtype != np.float32 or counts.dtype != np.int64:
            raise CalibrationError(f"{label}: amax is {amax.dtype}{list(amax.shape)}, counts {counts.dtype}")
        result = cls(len(amax), name=name)
        if counts.shape != result.counts.shape:
            raise CalibrationError(f"{label}: counts have shape {counts.shape}, not {result.counts.shape}")
        result.amax, result.counts = amax.copy(), counts.copy()
        fault = result._broken_invariant()
        if fault:
            raise CalibrationError(f"{label}: {fault}; collect it again")
        return result

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ChannelStatistic):
            return NotImplemented
        return np.array_equal(self.amax, other.amax) and np.array_equal(self.counts, other.counts)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        name = f"{self.name!r}, " if self.name else ""
        return f"ChannelStatistic({name}channels={self.channels}, elements={self.elements}, bins={self.bins})"

    @property
    def _exponents(self) -> npt.NDArray[np.int64]:
        return exponent_for(self.amax, self.bins)

    def _grow(self, amax: Floats) -> None:
        before = self._exponents
        self.amax = np.maximum(self.amax, amax)
        steps = self._exponents - before
        if steps.any():
            self.counts = coarsen(self.counts, steps)

    def _broken_invariant(self) -> str | None:
        if not (np.isfinite(self.amax).all() and (self.amax >= 0).all()) or (self.counts < 0).any():
            return "an amax is not finite, or a count is negative"
        if len(set(self.counts.sum(axis=1).tolist())) != 1:
            return "the channels hold different numbers of values"
        used = ((self.counts > 0) * np.arange(1, self.bins + 1)).max(axis=1)
        highest = np.maximum(np.ceil(self.amax / self.widths), min(self.elements, 1))  # zeros are in bin 0 as well
        if not np.array_equal(used, highest):
            channel = int(np.argmax(used != highest))
            return f"amax {self.amax[channel]:g} of channel {channel} does not lie in its highest used bin"
        return None


def bins_for(channels: int) -> int:
    """Returns the number of bins per channel, a power of two."""
    power_of_two = 1 << max((_CELLS // channels).bit_length() - 1, 0)
    return min(max(power_of_two, _FEWEST_BINS), _MOST_BINS)
