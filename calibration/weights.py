"""amax of weights, per channel or per tensor, straight from the values."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.binning import ArrayLike
from calibration.errors import CalibrationError
from calibration.methods import quantization_levels

WEIGHT_METHODS = ("max", "mse")
# Shares of a channel's largest weight that are tried: coarse over the range, then fine around the best one.
_COARSE = np.arange(0.30, 1.001, 0.05).astype(np.float32)
_FINE = np.arange(-0.04, 0.0401, 0.01).astype(np.float32)
_BLOCK = 1 << 16  # weights at a time: the scratch of a block stays in the cache

Floats = npt.NDArray[np.float32]


def weight_amax(
    w: ArrayLike, axis: int | None, method: str = "max", num_bits: int = 8, *, name: str | None = None
) -> Floats:
    """Returns amax per channel of `axis`, or of the whole tensor as one element.  # [channels] or [1]

    "mse" minimizes Σ (w − Q(w))² over amax from 0.3 to 1 times the channel's largest |w|, in steps of 0.01.
    An all-zero channel has amax 0, which is the truth: any scale represents it exactly, the caller picks one.
    """
    label = f"weight {name!r}" if name else "weight"
    if method not in WEIGHT_METHODS:
        raise CalibrationError(f"{label}: unknown method {method!r}; available: {', '.join(WEIGHT_METHODS)}")
    rows = _rows(_as_numpy(w, label), axis, label)
    amax = np.maximum(rows.max(axis=1), -rows.min(axis=1))
    if not np.isfinite(amax).all():
        bad = np.flatnonzero(~np.isfinite(amax))
        raise CalibrationError(
            f"{label}: NaN or infinity in {len(bad)} of {len(amax)} channels, first {bad[0]}; check the checkpoint"
        )
    return amax if method == "max" else _mse(rows, amax, quantization_levels(num_bits, unsigned=False))


def _as_numpy(w: Any, label: str) -> npt.NDArray[Any]:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(w, torch.Tensor):
        if not w.is_floating_point():
            raise CalibrationError(f"{label} is {w.dtype}, not a float tensor")
        w = w.detach().float().cpu().numpy()
    array = np.asarray(w)
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise CalibrationError(f"{label} is {array.dtype}, not a float array")
    if array.size == 0:
        raise CalibrationError(f"{label} is empty, shape {array.shape}")
    return array.astype(np.float32, copy=False)


def _rows(w: npt.NDArray[Any], axis: int | None, label: str) -> Floats:
    if axis is None:
        return w.reshape(1, -1)
    if not -w.ndim <= axis < w.ndim:
        raise CalibrationError(f"{label}: axis {axis} does not exist in shape {w.shape}")
    return np.moveaxis(w, axis, 0).reshape(w.shape[axis], -1)


def _mse(rows: Floats, amax: Floats, levels: int) -> Floats:
    channels, length = rows.shape
    share = np.ones(channels, np.float32)
    step = max(1, _BLOCK // length)
    for start in range(0, channels, step):
        block = slice(start, start + step)
        live: Floats = np.where(amax[block] > 0, amax[block], 1.0).astype(np.float32)
        scaled: Floats = np.abs(rows[block]) * (np.float32(levels) / live)[:, None]  # from 0 to levels
        coarse = _best_share(scaled, list(_COARSE), levels)[:, None]
        share[block] = _best_share(scaled, [np.minimum(coarse + offset, 1.0) for offset in _FINE], levels)
    return (amax * share).astype(np.float32)


def _best_share(scaled: Floats, candidates: Sequence[Floats | np.float32], levels: int) -> Floats:
    """Returns per row the candidate with the smallest error; of equal ones the largest, that is the last."""
    top = np.full_like(scaled, levels)
    quantized = np.empty_like(scaled)
    best, smallest = np.zeros(len(scaled), np.float32), np.full(len(scaled), np.inf, np.float32)
    for delta in candidates:  # one for all rows, or [rows, 1]; ascending
        np.multiply(scaled, np.float32(1.0) / delta, out=quantized)
        np.rint(quantized, out=quantized)
        np.minimum(quantized, top, out=quantized)
        np.multiply(quantized, delta, out=quantized)
        np.subtract(quantized, scaled, out=quantized)
        error = np.matmul(quantized[:, None, :], quantized[:, :, None])[:, 0, 0]
        better = error <= smallest
        best[better] = np.broadcast_to(delta, (len(scaled), 1))[better, 0]
        smallest[better] = error[better]
    return best
