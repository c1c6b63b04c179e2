"""Whether our amax equals pytorch-quantization's.

A check returns {method, skipped, quantizers, bins, where, passed}; `skipped`: None, or why there is nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from calibration import Statistic, compute_amax

LIMIT = 1.0  # bins: neither histogram knows more
# Their edges are float32 sums, ours are exact: a value on an edge may fall to the other side.
ROUNDING = 1e-3
PERCENTILES = (99.9, 99.99, 99.999)
MSE = {"method": "mse", "skipped": "pytorch-quantization computes it on CUDA only"}


class Pair:
    """Two of the library's calibrators fed with the same tensors: histogram and max."""

    def __init__(self, histogram: Callable[[], Any]) -> None:
        from pytorch_quantization.calib import MaxCalibrator

        self.histogram = histogram()
        self.max = MaxCalibrator(num_bits=8, axis=None, unsigned=False)

    def collect(self, x: Any) -> None:
        self.histogram.collect(x)
        self.max.collect(x)


def compare(method: str, ours: Mapping[str, float], theirs: Mapping[str, float], bins: Mapping[str, float]) -> Any:
    """Returns the check of one method: the largest difference in bins, where, and whether it is at most one.

    bins: the width of a bin, by quantizer.
    """
    away = {name: abs(ours[name] - theirs[name]) / bins[name] for name in theirs}
    where = max(away, key=lambda name: away[name] if np.isfinite(away[name]) else np.inf)
    passed = bool(away[where] <= LIMIT + ROUNDING)
    return {
        "method": method,
        "skipped": None,
        "quantizers": len(away),
        "bins": away[where],
        "where": where,
        "passed": passed,
    }


def check_max(statistics: Mapping[str, Statistic], theirs: Mapping[str, Pair]) -> Any:
    """Compares with the library's MaxCalibrator."""
    return compare(
        "max",
        {name: compute_amax(s, "max") for name, s in statistics.items()},
        {name: float(pair.max.compute_amax()) for name, pair in theirs.items()},
        {name: s.width for name, s in statistics.items()},
    )


def check_percentile(statistics: Mapping[str, Statistic], theirs: Mapping[str, Pair], percentile: float) -> Any:
    """Compares with the library's percentile of the histogram that it collected itself.

    It returns the lower edge of the bin in which the percentile lies, ours is the upper one: a bin is added. The two
    histograms have bins of different widths; the wider one counts.
    """
    edges = {name: pair.histogram._calib_bin_edges for name, pair in theirs.items()}
    width = {name: float(e[1] - e[0]) for name, e in edges.items()}
    lower = {n: float(p.histogram.compute_amax("percentile", percentile=percentile)) for n, p in theirs.items()}
    upper = {name: min(lower[name] + width[name], statistics[name].amax) for name in theirs}
    return compare(
        f"percentile {percentile:g}",
        {name: compute_amax(s, "percentile", percentile=percentile) for name, s in statistics.items()},
        upper,
        {name: max(width[name], statistics[name].width) for name in theirs},
    )


def check_entropy(statistics: Mapping[str, Statistic], theirs: Mapping[str, float]) -> Any:
    """Compares with what the library computed from our histograms."""
    ours = {name: compute_amax(statistics[name], "entropy") for name in theirs}
    return compare("entropy", ours, theirs, {name: statistics[name].width for name in theirs})


def library_entropy(statistic: Statistic) -> float:
    """Returns the entropy amax that pytorch-quantization computes from our histogram."""
    from pytorch_quantization.calib.histogram import _compute_amax_entropy

    counts = statistic.histogram().astype(np.int64)
    edges = np.arange(len(counts) + 1) * statistic.width
    return float(_compute_amax_entropy(counts, edges, num_bits=8, unsigned=False))
