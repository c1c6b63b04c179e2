"""The searches behind the methods, on a plain histogram and in units of its bin width.

A histogram is h[0 … n−1] over (0, n], zeros counted into h[0], h[n−1] > 0; bin j has its centre at j + ½.
The candidates start at bin 128, as in TensorRT and pytorch-quantization. Each search evaluates all of them at
once: sums over runs of bins are differences of cumulative sums, and where the runs begin depends on the
candidate alone, so one table of integers serves every histogram.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.errors import CalibrationError

START_BIN = 128

Histogram = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


def percentile_edge(counts: npt.NDArray[np.int64], percentile: float) -> int:
    """Returns the smallest i ≥ 1 such that at least `percentile` % of all values are at most i.

    `counts` has exact zeros in bin 0 and (i − 1, i] in bin i. When the zeros alone reach the percentile, the
    first edge stands in for an amax of 0.
    """
    if not 0.0 <= percentile <= 100.0:
        raise CalibrationError(f"percentile = {percentile}: a number from 0 to 100 is needed (99.99 is usual)")
    cumulative = np.cumsum(counts)
    # In integers: 99.9 / 100 is no binary fraction, and one count more or less can mean another bin.
    needed = ceil(Fraction(str(percentile)) * int(cumulative[-1]) / 100)
    return max(int(np.searchsorted(cumulative, needed)), 1)


def mse_centre(bins: Histogram, levels: int) -> float:
    """Returns the bin centre a that, as amax, gives the smallest squared quantization error.

    With x_j = j + ½, L = `levels`, Δ = a / L and q_j = min(round(x_j / Δ), L) the error is Σ h (x − Δq)².
    q_j is the number of thresholds (q − ½)Δ below x_j; with b_q the first bin above the q-th one, and N, X
    the sums of h and of h·x from a bin on:

        Σ h x q = Σ_{q=1..L} X(b_q)        Σ h q² = Σ_{q=1..L} (2q − 1) N(b_q)
    """
    n = len(bins)
    start, stop = min(START_BIN, n - 1), _power_of_two(n)
    thresholds = _mse_thresholds(start, stop, levels)[: n - start]  # [candidates, L]
    x = np.arange(n) + 0.5
    delta = x[start:] / levels
    odd = 2.0 * np.arange(1, levels + 1) - 1.0
    sum_xq = _sums_from(bins * x, stop).take(thresholds).sum(axis=1)
    sum_qq = _sums_from(bins, stop).take(thresholds) @ odd
    errors = np.sum(bins * x * x) - 2.0 * delta * sum_xq + delta**2 * sum_qq
    return float(x[start + int(np.argmin(errors))])


def entropy_edge(bins: Histogram, groups: int) -> int:
    """Returns the bin edge i whose clipped histogram has the smallest KL(P ‖ Q) in `groups` levels.

    The zeros would drown everything else, so h[0] := h[1], as in the libraries. Of equal candidates the largest
    wins; if no candidate has a finite divergence, nothing is clipped.
    """
    n = len(bins)
    if n == 1:
        return 1
    bins = np.concatenate([bins[1:2], bins[1:]])
    start = min(START_BIN, n)
    edges = np.arange(start, n + 1)
    borders = _group_borders(start, _power_of_two(n), groups)[: len(edges)]
    divergence = _divergence(bins, edges, borders)
    return int(edges[len(edges) - 1 - int(np.argmin(divergence[::-1]))])


def _divergence(bins: Histogram, edges: Indices, borders: Indices) -> Histogram:
    """Returns KL(P ‖ Q) for every candidate edge i.  # [candidates]

    P is h[:i] with the tail, everything beyond i, added to its last bin. Q spreads each group's sum S over
    its K used bins and ignores the tail (Migacz, "8-bit inference with TensorRT", GTC 2017). With T = Σh and
    C = Σh[:i]:

        T · KL = Σ P log P − T log T − (Σ_groups S log(S / K) + tail · log Q_last − T log C)
    """
    groups = borders.shape[1] - 1
    total, kept = bins.sum(), _sums_up_to(bins)[edges]
    tail, last = total - kept, bins[edges - 1]
    sums = np.diff(_sums_up_to(bins).take(borders), axis=1)  # [candidates, groups]
    used = np.diff(_sums_up_to(bins > 0).take(borders), axis=1)
    level = sums / np.maximum(used, 1.0)
    last_level = level[np.arange(len(edges)), (edges - 1) * groups // edges]
    own = _sums_up_to(_x_log(bins, bins))[edges - 1] + _x_log(last + tail, last + tail)
    cross = _x_log(sums, level).sum(axis=1) + _x_log(tail, last_level) - _x_log(total, kept)
    divergence = (own - _x_log(total, total) - cross) / total
    divergence[(tail > 0) & (last == 0)] = np.inf  # Q is 0 where P holds the tail
    return np.asarray(divergence, np.float64)


def _power_of_two(n: int) -> int:
    # Tables are built for the next power of two, so that histograms of similar lengths share one.
    return 1 << (n - 1).bit_length()


@lru_cache(maxsize=8)
def _mse_thresholds(start: int, stop: int, levels: int) -> Indices:
    """Returns, per candidate i + ½ and level q, the first bin that rounds to q or more.  # [stop − start, L]

    (2j + 1)·2L ≥ (2q − 1)(2i + 1): an even number never equals an odd one, so no centre sits on a threshold.
    """
    i = np.arange(start, stop)[:, None]
    q = np.arange(1, levels + 1)[None, :]
    return np.asarray(-((2 * levels - (2 * q - 1) * (2 * i + 1)) // (4 * levels)), np.intp)


@lru_cache(maxsize=8)
def _group_borders(start: int, stop: int, groups: int) -> Indices:
    """Returns the first bin of every group when i bins are split evenly.  # [stop + 1 − start, groups + 1]"""
    i = np.arange(start, stop + 1)[:, None]
    return np.asarray(-(-(np.arange(groups + 1)[None, :] * i) // groups), np.intp)


def _sums_up_to(values: npt.NDArray[Any]) -> Histogram:
    """Returns the sums of values[:j] for j = 0 … n.  # [n + 1]"""
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def _sums_from(values: Histogram, stop: int) -> Histogram:
    """Returns the sums of values[j:] for j = 0 … stop.  # [stop + 1]"""
    sums = np.zeros(stop + 1)
    sums[: len(values)] = np.cumsum(values[::-1])[::-1]
    return sums


def _x_log(x: npt.ArrayLike, y: npt.ArrayLike) -> Histogram:
    """Returns x · log y, and 0 where y is 0: there x is 0 as well, or the caller rules the candidate out."""
    return np.asarray(np.multiply(x, np.log(np.where(np.greater(y, 0.0), y, 1.0))))
