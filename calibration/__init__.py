"""Statistics of activations and weights, and the amax that every calibration method reads from them.

One pass over the data feeds one mergeable `Statistic` per quantizer; max, percentile, mse and entropy are all
computed from it afterwards:

    statistic = Statistic(name="encoder.0.query.input")
    for batch in batches:
        statistic.collect(batch)                    # a torch tensor on any device, or a numpy array
    compute_amax(statistic, "percentile", percentile=99.99)
    compute_all(statistic)                          # {"max": …, "percentile_99.9": …, "mse": …, "entropy": …}

Only numpy is imported here; torch and pytorch-quantization only where the caller already uses them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from calibration.channels import ChannelStatistic
from calibration.errors import CalibrationError
from calibration.methods import METHODS, compute_all, compute_amax, method_key
from calibration.migration import Migration, choose_factors, rescale
from calibration.statistics import Statistic
from calibration.weights import weight_amax

if TYPE_CHECKING:
    from calibration.calibrator import HistogramCalibrator
    from calibration.store import CalibrationTable, QuantizerRecord

# Imported on first use: the first needs pytorch-quantization (and torch), the others pydantic.
_LAZY = {
    "HistogramCalibrator": "calibration.calibrator",
    "CalibrationTable": "calibration.store",
    "QuantizerRecord": "calibration.store",
}

__all__ = [
    "METHODS",
    "CalibrationError",
    "CalibrationTable",
    "ChannelStatistic",
    "HistogramCalibrator",
    "Migration",
    "QuantizerRecord",
    "Statistic",
    "choose_factors",
    "compute_all",
    "compute_amax",
    "method_key",
    "rescale",
    "weight_amax",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'calibration' has no attribute {name!r}")
