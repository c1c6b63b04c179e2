"""amax from a statistic: max, percentile, mse and entropy, as pytorch-quantization defines them.

The searches are in calibration/searches.py; here are the names, the checks and the bounds. No method returns more
than the exact amax.
"""

from __future__ import annotations

from collections.abc import Sequence

from calibration.arithmetic import code_range
from calibration.errors import CalibrationError
from calibration.searches import entropy_edge, mse_centre, percentile_edge
from calibration.statistics import Statistic

METHODS = ("max", "percentile", "mse", "entropy")


def compute_amax(
    statistic: Statistic, method: str, *, percentile: float = 99.99, num_bits: int = 8, unsigned: bool = False
) -> float:
    """Returns the amax that `method` reads from the statistic: a positive float32, at most the exact amax.

    Raises CalibrationError for an unknown method, a degenerate statistic, and unsigned where values are negative.
    """
    if method not in METHODS:
        raise CalibrationError(f"unknown calibration method {method!r}; available: {', '.join(METHODS)}")
    fault = statistic.is_degenerate
    if fault:
        raise CalibrationError(f"{statistic.label} {fault}; leave it float, or calibrate with data that reach it")
    if unsigned and statistic.has_negative:
        raise CalibrationError(f"{statistic.label} saw negative values and cannot be unsigned; make it signed")
    if method == "max":
        return statistic.amax
    if method == "percentile":
        position = float(percentile_edge(statistic.counts, percentile))
    elif method == "mse":
        position = mse_centre(statistic.histogram(), quantization_levels(num_bits, unsigned))
    else:
        position = float(entropy_edge(statistic.histogram(), quantization_levels(num_bits, unsigned) + 1))
    return min(position * statistic.width, statistic.amax)


def compute_all(
    statistic: Statistic,
    percentiles: Sequence[float] = (99.9, 99.99, 99.999),
    *,
    num_bits: int = 8,
    unsigned: bool = False,
) -> dict[str, float]:
    """Returns amax by method key: "max", "percentile_99.9", …, "mse", "entropy"."""
    wanted = [("max", 0.0), *(("percentile", p) for p in percentiles), ("mse", 0.0), ("entropy", 0.0)]
    return {
        method_key(method, p): compute_amax(statistic, method, percentile=p, num_bits=num_bits, unsigned=unsigned)
        for method, p in wanted
    }


def method_key(method: str, percentile: float = 99.99) -> str:
    """Returns the key of an amax in a table: "percentile_99.99", otherwise the method itself."""
    return f"percentile_{percentile:.10g}" if method == "percentile" else method


def quantization_levels(num_bits: int, unsigned: bool) -> int:
    """Returns the largest quantized value: 127 for signed, 255 for unsigned 8 bits (narrow range)."""
    if not 2 <= num_bits <= 10:
        raise CalibrationError(f"num_bits = {num_bits}: mse and entropy work for 2 to 10 bits; use max or percentile")
    return code_range(num_bits, unsigned)[1]
