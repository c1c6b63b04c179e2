"""Counts of |x| in bins of a power-of-two width, for torch tensors and numpy arrays alike.

Bin 0 holds the exact zeros, bin i the values in ((i − 1)·w, i·w]. Because w is a power of two, |x| / w is
exact in float32, so the bin of a value depends on nothing but the value and w, and

    ceil(|x| / 2w) = ceil(ceil(|x| / w) / 2)

turns a histogram of width w into the one of width 2w without a second look at the data.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
import numpy.typing as npt

from calibration.errors import CalibrationError

if TYPE_CHECKING:
    import torch

ArrayLike: TypeAlias = Union["torch.Tensor", npt.NDArray[Any]]
Counts: TypeAlias = npt.NDArray[np.int64]

FLOATS = ("float32", "float16", "bfloat16", "float64")
# Elements binned at a time: few enough for the cache, enough to hide the cost of a call.
_CHUNK = 1 << 17
_CHUNK_ON_DEVICE = 1 << 24
# Neighbouring elements count into different copies of the histogram: equal neighbours (a softmax, a ReLU) would make
# every increment wait for the one before it, which takes nearly twice as long.
_LANES = 4


class UnusableValues(Exception):
    """What is wrong with a tensor; the caller adds its name and batch."""


def flatten(x: ArrayLike) -> Any:
    """Returns the elements of `x` in one dimension, in any order, without a copy if memory is dense."""
    check_floats(x)
    values: Any = x
    return _flatten_torch(values) if is_torch(x) else values.ravel(order="K")


def extremes(flat: Any) -> tuple[float, float]:
    """Returns the smallest and the largest value, rounded to float32; NaN and infinity are refused."""
    if is_torch(flat):
        low, high = (float(v) for v in flat.aminmax())
    else:
        low, high = float(flat.min()), float(flat.max())
    with np.errstate(over="ignore"):
        low, high = float(np.float32(low)), float(np.float32(high))
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UnusableValues(_not_finite(flat))
    return low, high


def exponent_for(amax: float | npt.NDArray[np.float32], bins: int) -> npt.NDArray[np.int64]:
    """Returns for every amax the smallest k ≥ −126 with amax ≤ bins · 2^k: the bin width is 2^k.

    The lower bound keeps 2^−k in float32. amax is a float32 and bins a power of two: the division is exact.
    """
    mantissa, exponent = np.frexp(np.asarray(amax, np.float64) / bins)
    return np.where(mantissa > 0, np.maximum(exponent.astype(np.int64) - (mantissa == 0.5), -126), -126)


def count(flat: Any, exponent: int, bins: int) -> Counts:
    """Returns how many |x| fall into each of the bins 0 … `bins` of width 2^`exponent`.  # [bins + 1]"""
    counts = _count_torch(flat, exponent, bins) if is_torch(flat) else _count_numpy(flat, exponent, bins)
    if exponent > 0:
        # Scaling down can underflow: a tiny value then looks like a zero. Count the true zeros instead.
        zeros = _count_zeros(flat)
        counts[1] += counts[0] - zeros
        counts[0] = zeros
    return counts


def coarsen(counts: Counts, steps: npt.ArrayLike) -> Counts:
    """Returns the counts of each row for bins 2^steps times as wide: bin i falls into bin i // 2^steps.

    counts: int64 [C, bins]; steps: [C].
    """
    rows_steps, bins = np.asarray(steps), counts.shape[1]
    result = np.zeros_like(counts)
    for step in np.unique(rows_steps):
        rows = rows_steps == step
        factor = 1 << min(int(step), bins.bit_length())
        padded = np.zeros((int(rows.sum()), -(-bins // factor) * factor), np.int64)
        padded[:, :bins] = counts[rows]
        result[rows, : padded.shape[1] // factor] = padded.reshape(len(padded), -1, factor).sum(axis=2)
    return result


def require(arrays: Mapping[str, npt.NDArray[Any]], fields: set[str], label: str) -> None:
    """Raises CalibrationError naming the fields that a stored statistic lacks."""
    missing = sorted(fields - set(arrays))
    if missing:
        raise CalibrationError(f"{label}: {', '.join(missing)} missing; found {', '.join(sorted(arrays))}")


def is_torch(x: object) -> bool:
    """Returns whether x is a torch tensor, without importing torch."""
    # A torch tensor exists only if somebody imported torch; this module never does.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def check_floats(x: object) -> None:
    """Raises UnusableValues unless x is a dense, non-empty float tensor or array."""
    if not is_torch(x) and not isinstance(x, np.ndarray):
        raise UnusableValues(f"holds a {type(x).__name__}; a torch tensor or a numpy array is needed")
    tensor: Any = x
    dtype, shape = str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
    if dtype not in FLOATS:
        raise UnusableValues(f"is {dtype}, shape {shape}; a calibrator takes {', '.join(FLOATS)}")
    if 0 in shape:
        raise UnusableValues(f"is empty, shape {shape}")
    if is_torch(x):
        import torch

        if tensor.layout != torch.strided or tensor.is_meta:
            raise UnusableValues(f"is not a dense tensor with values ({tensor.layout}, on {tensor.device})")


def _flatten_torch(x: Any) -> Any:
    x = x.detach()
    # Attention heads arrive transposed; in memory order they are contiguous, and the order does not matter.
    in_memory_order = x.permute(sorted(range(x.ndim), key=x.stride, reverse=True))
    return in_memory_order.reshape(-1)


def _not_finite(flat: Any) -> str:
    xp: Any = sys.modules["torch"] if is_torch(flat) else np
    nan = int(xp.isnan(flat).sum())
    infinite = int(xp.isinf(flat).sum())
    size = flat.numel() if is_torch(flat) else flat.size
    if nan + infinite == 0:
        return f"holds values beyond the range of float32 ({size} values)"
    return f"holds {nan} NaN and {infinite} infinite of {size} values"


def _count_numpy(flat: Any, exponent: int, bins: int) -> Counts:
    scale = np.float32(2.0**-exponent)
    counts = np.zeros(bins + 1, np.int64)
    for start in range(0, flat.size, _CHUNK):
        values = flat[start : start + _CHUNK].astype(np.float32)
        np.ceil(np.abs(np.multiply(values, scale, out=values), out=values), out=values)
        counts += np.bincount(values.astype(np.intp), minlength=bins + 1)
    return counts


@lru_cache(maxsize=4)
def _lane_offsets(size: int, stride: int) -> npt.NDArray[np.int32]:
    return (np.arange(size) % _LANES * stride).astype(np.int32)


def _count_torch(flat: Any, exponent: int, bins: int) -> Counts:
    import torch

    on_cpu = flat.device.type == "cpu"
    lanes = _LANES if on_cpu else 1
    size = min(_CHUNK if on_cpu else _CHUNK_ON_DEVICE, flat.numel())
    scale, length = 2.0**-exponent, lanes * (bins + 1)
    offsets = torch.from_numpy(_lane_offsets(_CHUNK, bins + 1))
    scratch = torch.empty(size, dtype=torch.float32, device=flat.device)
    indices = torch.empty(size, dtype=torch.int32, device=flat.device)
    counts = torch.zeros(length, dtype=torch.int64, device=flat.device)
    for chunk in flat.split(size):
        values, index = scratch[: chunk.numel()], indices[: chunk.numel()]
        if chunk.dtype is torch.float32:
            torch.mul(chunk, scale, out=values)
        else:
            values.copy_(chunk).mul_(scale)
        index.copy_(values.abs_().ceil_())
        if on_cpu:
            index.add_(offsets[: chunk.numel()])
        counts += torch.bincount(index, minlength=length)
    folded: Counts = counts.view(lanes, bins + 1).sum(0).cpu().numpy()
    return folded


def _count_zeros(flat: Any) -> int:
    if is_torch(flat):
        return int(flat.numel() - flat.float().count_nonzero())
    return int(flat.size - np.count_nonzero(flat.astype(np.float32)))
