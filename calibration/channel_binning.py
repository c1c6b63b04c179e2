"""Counts of |x| per channel, for torch tensors and numpy arrays alike; calibration/binning.py has the arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from calibration.binning import ArrayLike, Counts, UnusableValues, check_floats, is_torch

Axis: TypeAlias = int | tuple[int, ...]  # several axes together enumerate the channels, the last one fastest

_CHUNK = 1 << 17  # elements at a time, and
_CELLS = 1 << 13  # counters at a time: both stay in the cache
_ON_DEVICE = 1 << 24  # elements at a time on a GPU


def channel_amax(x: ArrayLike, axis: Axis) -> npt.NDArray[np.float32]:
    """Returns the largest |x| per channel; NaN and infinity are refused.  # [C]"""
    check_floats(x)
    view = _as_outer_channel_inner(x, axis)
    if is_torch(x):
        low, high = view.amin((0, 2)).float().cpu().numpy(), view.amax((0, 2)).float().cpu().numpy()
    else:
        low, high = view.min((0, 2)), view.max((0, 2))
    with np.errstate(over="ignore"):
        amax: npt.NDArray[np.float32] = np.abs(np.maximum(-low, high).astype(np.float32))  # abs: −0.0 is 0.0
    if not np.isfinite(amax).all():
        first = int(np.argmin(np.isfinite(amax)))
        raise UnusableValues(f"holds NaN, infinity or values beyond float32, first in channel {first}")
    return amax


def count_channels(x: ArrayLike, axis: Axis, exponents: npt.NDArray[np.int64], bins: int) -> Counts:
    """Returns how many |x| of each channel fall into its bins (i·w, (i + 1)·w], w = 2^exponent.  # [C, bins]

    The first bin also takes the zeros, and values too small to be told from zero.
    """
    view = _as_outer_channel_inner(x, axis)
    return (_count_torch if is_torch(x) else _count_numpy)(view, exponents, bins)


def channels_along(x: ArrayLike, axis: Axis) -> int:
    """Returns how many channels a tensor has along `axis`."""
    return math.prod(x.shape[a] for a in ((axis,) if isinstance(axis, int) else axis))


def _as_outer_channel_inner(x: Any, axis: Axis) -> Any:
    """Returns x as [outer, C, inner], without a copy where its memory layout allows."""
    if isinstance(axis, tuple):  # attention heads: [B, H, S, D], which lies in memory as [B, S, H, D]
        ends = tuple(range(-len(axis), 0))
        x = x.movedim(axis, ends) if is_torch(x) else np.moveaxis(x, axis, ends)
        x = x.reshape(*x.shape[: -len(ends)], -1)
    at = x.ndim - 1 if isinstance(axis, tuple) else axis % x.ndim
    before, after = math.prod(x.shape[:at]), math.prod(x.shape[at + 1 :])
    return (x.detach() if is_torch(x) else x).reshape(before, x.shape[at], after)


def _blocks(shape: tuple[int, int, int], cells: int, elements: int) -> Iterator[tuple[slice, slice]]:
    """Yields (outer, channels) slices of at most `cells` channels and about `elements` elements."""
    outer, channels, inner = shape
    block = max(1, min(cells, channels, elements // inner))
    rows = max(1, elements // (block * inner))
    for first in range(0, channels, block):
        for start in range(0, outer, rows):
            yield slice(start, min(start + rows, outer)), slice(first, min(first + block, channels))


def _count_torch(view: Any, exponents: npt.NDArray[np.int64], bins: int) -> Counts:
    import torch

    device, channels = view.device, view.shape[1]
    on_cpu = device.type == "cpu"
    scales = torch.from_numpy(np.ldexp(np.float32(1.0), -exponents).astype(np.float32)).to(device)[:, None]
    cells = _CELLS // bins if on_cpu else channels
    offsets = torch.arange(-1, cells * bins - 1, bins, dtype=torch.float32, device=device)[:, None]
    counts = torch.zeros((channels, bins), dtype=torch.int64, device=device)
    values = index = torch.empty(0)
    for outer, part in _blocks(tuple(view.shape), cells, _CHUNK if on_cpu else _ON_DEVICE):
        piece = view[outer, part]
        if values.shape != piece.shape:  # reused: fresh memory costs more than the arithmetic
            values = torch.empty(piece.shape, dtype=torch.float32, device=device)
            index = torch.empty(piece.shape, dtype=torch.int32, device=device)
        torch.mul(piece if piece.dtype is torch.float32 else piece.float(), scales[part], out=values)
        # cells · bins < 2^24: the sum is exact in float32
        index.copy_(values.abs_().ceil_().clamp_(min=1.0).add_(offsets[: piece.shape[1]]))
        size = piece.shape[1]
        counts[part] += torch.bincount(index.view(-1), minlength=size * bins).view(size, bins)
    result: Counts = counts.cpu().numpy()
    return result


def _count_numpy(view: Any, exponents: npt.NDArray[np.int64], bins: int) -> Counts:
    counts = np.zeros((view.shape[1], bins), np.int64)
    scales = np.ldexp(np.float32(1.0), -exponents).astype(np.float32)[:, None]
    for outer, part in _blocks(view.shape, _CELLS // bins, _CHUNK):
        size = part.stop - part.start
        index = np.maximum(np.ceil(np.abs(view[outer, part].astype(np.float32) * scales[part])), 1.0).astype(np.intp)
        index += (np.arange(size) * bins - 1)[:, None]
        counts[part] += np.bincount(index.reshape(-1), minlength=size * bins).reshape(size, bins)
    return counts
