"""The one exception of this package: no amax can be computed from the data or the file."""

from __future__ import annotations


class CalibrationError(ValueError):
    """Calibration data, a statistic or a stored table that cannot be used; the message says which and why."""
