"""The one fault of this package: data or a file that no amax can be computed from."""

from __future__ import annotations


class CalibrationError(ValueError):
    """Calibration data, a statistic or a stored table that cannot be used; the message says which and why."""
