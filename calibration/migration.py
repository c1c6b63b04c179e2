"""Outlier migration: factors that move the outliers of activation channels into the weights that read them.

    x·Wᵀ = (x / s)·(W·s)ᵀ          s > 0, one factor per input channel

is exact in float, and more accurate in int8: a few channels far larger than the others no longer set the scale for
all. SmoothQuant (Xiao et al. 2022, arXiv:2211.10438) takes s = amax_x^α / amax_w^(1−α) with one α for the whole model.
Here the strength α is chosen per tensor, by the quantization error that the statistics predict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.arithmetic import Grid, code_range
from calibration.channels import ChannelStatistic
from calibration.errors import CalibrationError
from calibration.statistics import Statistic

Floats = npt.NDArray[np.float32]
Histogram = npt.NDArray[np.float64]

STRENGTHS = tuple(round(0.05 * i, 2) for i in range(21))
_ROWS = 256  # output channels, spread over all, that the error is estimated from
_SMALLEST = 1e-6  # share of the largest: a channel that hardly differs from zero gets no factor of its own


@dataclass(frozen=True)
class Migration:
    """The factors that one tensor is divided by, and the weights that read it are multiplied by.

    noise and noise_before are the predicted mean squared errors of the outputs, relative to their mean square.
    """

    factors: Floats  # [C]
    strength: float
    noise: float
    noise_before: float

    @property
    def gain_db(self) -> float:
        """How many decibels of quantization noise the migration saves."""
        return float(10.0 * np.log10(self.noise_before / self.noise)) if self.noise > 0 else 0.0


def choose_factors(
    channel: ChannelStatistic, weights: Sequence[Floats], num_bits: int = 8, *, also: Sequence[ChannelStatistic] = ()
) -> Migration:
    """Returns the factors of least error when x and all weights that read it are quantized to `num_bits`.

    weights: [N, C, T] each: outputs, input channels, taps of a convolution (1 for a linear layer); [C, 1, T] for a
    depthwise convolution. With Δ the step of x / s over its exact amax, Q(W·s) the weights quantized per output
    channel, and the channels taken to be independent with mean 0, the expected squared error of the outputs is

        Δ²/12 · Σ (W·s)²  +  Σ_c (Q(W·s) − W·s)²_c · E[x_c²] / s_c²
                          +  Σ_c W_c² · 2β_c² / (n + 1) · exp(−(t_c − amax_c) / β_c)

    The last term is what new data will lose to clipping: after n values of a channel, the next one exceeds them all
    with probability 1 / (n + 1), and with an exponential tail it does so by β = amax / ln n on average. A channel that
    fills the range, t_c = s_c · amax(x / s) = amax_c, has no headroom, so few samples forbid a high strength.

    also: other quantized tensors with the same channels that the division passes through on its way to x; each adds
    its own Δ²/12, as if all of its error arrived.

    The candidates are s = amax_x^α / rms_w^(1−α) for α > 0 in `STRENGTHS`, normalized to a geometric mean of 1, and no
    migration, s = 1, which is called α = 0. Raises CalibrationError if shapes or numbers of channels disagree.
    """
    none = Migration(np.ones(channel.channels, np.float32), 0.0, 0.0, 0.0)
    if channel.channels == 1:  # one factor for all changes nothing, and [N, 1, T] would pass for depthwise weights
        return none
    if not weights or any(w.ndim != 3 or channel.channels != w.shape[_channel_axis(w)] for w in weights):
        shapes = ", ".join(str(w.shape) for w in weights) or "none"
        raise CalibrationError(f"{channel!r}: weights [N, {channel.channels}, T] are needed, found {shapes}")
    unlike = [other for other in also if other.channels != channel.channels]
    if unlike:
        raise CalibrationError(f"{channel!r}: the division passes through {unlike[0]!r}, which has other channels")
    codes = code_range(num_bits)
    sample = [_some_rows(w) for w in weights]
    amax = np.maximum(channel.amax, _SMALLEST * channel.amax.max()).astype(np.float64)
    moment = channel.second_moment()
    square = np.sum([_square_per_channel(w) for w in sample], axis=0)  # [C]
    power = float(square @ moment)
    if not (power > 0 and amax.max() > 0):
        return none
    rms = np.sqrt(np.maximum(square, _SMALLEST**2 * square.max()))
    candidates = [_candidate(amax, rms, strength) for strength in STRENGTHS]
    tensors = [amax, *(other.amax.astype(np.float64) for other in also)]
    values = channel.elements // channel.channels
    clipped = [float(square @ _clipping(amax, s, values)) for s in candidates]
    noise = [
        (sum(_noise(tensors, moment, w, s, codes) for w in sample) + lost) / power
        for s, lost in zip(candidates, clipped, strict=True)
    ]
    best = int(np.argmin(noise))
    return Migration(candidates[best], STRENGTHS[best], noise[best], noise[0])


def rescale(statistic: Statistic, channel: ChannelStatistic, factors: Floats) -> Statistic:
    """Returns the statistic of x / factors, where x is what both statistics saw; its amax is exact.

    The values of a channel are spread evenly over each of its bins, so that the histogram is a sum of ramps; zeros stay
    zeros, taken from the channels' first bins in proportion. The bins are those of `statistic`. Read from it, max is
    exact, percentile and mse are close, and entropy, which jumps with the shape of single bins, is rough.
    """
    seen, per_channel = (statistic.elements, statistic.amax), (channel.elements, float(channel.amax.max()))
    counts = channel.counts.astype(np.float64)
    if seen != per_channel or statistic.zeros > counts[:, 0].sum():
        raise CalibrationError(
            f"{statistic.label}: {seen[0]} values up to {seen[1]:g} per tensor, {per_channel[0]} up to "
            f"{per_channel[1]:g} per channel; the two statistics saw different data"
        )
    counts[:, 0] *= 1.0 - statistic.zeros / max(counts[:, 0].sum(), 1.0)
    nonzero = statistic.elements - statistic.zeros
    result = Statistic(statistic.bins, name=statistic.name)
    result.amax = float((channel.amax / factors).max())
    result.batches, result.has_negative = statistic.batches, statistic.has_negative
    used = int(np.ceil(result.amax / result.width))
    below = _cumulative(counts, channel.widths / (factors.astype(np.float64) * result.width), used)
    below = np.minimum(np.rint(below), nonzero - 1)  # the largest value is in the last used bin
    result.counts[0] = statistic.zeros
    result.counts[1 : used + 1] = np.diff(np.append(below, nonzero)).astype(np.int64)
    return result


def _candidate(amax: Histogram, rms: Histogram, strength: float) -> Floats:
    if strength == 0.0:
        return np.ones(len(amax), np.float32)
    logs = strength * np.log(amax) - (1.0 - strength) * np.log(rms)
    factors: Floats = np.exp(logs - logs.mean()).astype(np.float32)
    return factors


def _noise(tensors: Sequence[Histogram], moment: Histogram, w: Floats, s: Floats, codes: tuple[int, int]) -> float:
    scaled = w * _along_channels(s, w)
    error = Grid.covering(np.abs(scaled).max(axis=(1, 2)), 0, *codes).round(scaled) - scaled
    by_weights = _square_per_channel(error) @ (moment / s.astype(np.float64) ** 2)
    steps = sum(((amax / s).max() / codes[1]) ** 2 for amax in tensors)
    return float(by_weights + steps / 12.0 * _square_per_channel(scaled).sum())


def _clipping(amax: Histogram, s: Floats, values: int) -> Histogram:
    """Returns the expected square of how far a new value of each channel exceeds the range.  # [C]"""
    beta = amax / np.log(values + 2.0)
    limit = s * (amax / s).max()
    return np.asarray(2.0 * beta**2 / (values + 1.0) * np.exp(-(limit - amax) / beta))


def _channel_axis(w: Floats) -> int:
    return 0 if w.shape[1] == 1 else 1


def _along_channels(s: Floats, w: Floats) -> Floats:
    return s[:, None, None] if _channel_axis(w) == 0 else s[None, :, None]


def _square_per_channel(w: Floats) -> Histogram:
    return np.asarray(np.square(w).sum(axis=(1 - _channel_axis(w), 2), dtype=np.float64))


def _some_rows(w: Floats) -> Floats:
    return w if _channel_axis(w) == 0 else w[:: -(-len(w) // _ROWS)]


def _cumulative(counts: Histogram, widths: Histogram, stop: int) -> Histogram:
    """Returns how many of the counted values lie below 0, 1, … stop − 1, if channel c's bins are widths[c] wide.

    A bin of mass m from l to r is a ramp of slope k = m/(r − l) that starts at l, minus the same ramp starting at r.
    With K(t) and P(t) the sums of k and of k·l over the ramps started by t, all ramps add up to t·K(t) − P(t).
    """
    # A channel that fits into the first bin stays there, but its slopes (of zeros: 1e40) would drown all the others.
    bins = counts.shape[1]
    widths = np.maximum(widths, 1.0 / bins)
    edges = np.arange(bins + 1) * widths[:, None]  # [C, bins + 1]
    density = counts / widths[:, None]  # [C, bins]
    change = np.diff(density, axis=1, prepend=0.0, append=0.0)  # of the slope, at every edge
    live = change != 0
    at, slope = edges[live], change[live]
    first = np.minimum(np.ceil(at), stop).astype(np.intp)
    slopes = np.cumsum(np.bincount(first, slope, minlength=stop + 1))[:stop]
    offsets = np.cumsum(np.bincount(first, slope * at, minlength=stop + 1))[:stop]
    return np.asarray(np.maximum.accumulate(np.maximum(np.arange(stop) * slopes - offsets, 0.0)))
