"""Which stored weights can overflow 16 bits on processors without VNNI, and the scales at which none do.

Without VNNI, x86 multiplies unsigned by signed bytes with VPMADDUBSW, which adds two neighbouring products in 16 bits
and saturates (Intel 64 and IA-32 Software Developer's Manual, PMADDUBSW):

    y = clip(u₁·w₁ + u₂·w₂, −2¹⁵, 2¹⁵ − 1),    u in [0, 255], w in [−128, 127]

Two weights of unlike sign never saturate, and for two of like sign |w₁| + |w₂| ≤ 128 suffices: 255 · 128 < 2¹⁵. The
kernels of OpenVINO 2026.4 and ONNX Runtime 1.31 add neighbouring input channels, the first with the second, the third
with the fourth, at the same place of a convolution's window; ONNX Runtime, which lays out windows as rows of places and
channels, also across places if the number of channels is odd. Depthwise convolutions add in 32 bits. Signed activations
do not help: the kernels shift them to unsigned ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LIMIT = 128  # of |w₁| + |w₂|, in quantization steps


def neighbours(weight: NDArray[Any]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yields the weights that a kernel adds in pairs: the left and the right ones, [N, …] each.

    weight: [N, P, C] of N output channels, P places of the window and C input channels of a group. A depthwise
    convolution is [N·P, 1, 1] and has no pairs.
    """
    outputs, places, channels = weight.shape
    even = channels // 2 * 2
    yield weight[:, :, 0:even:2].reshape(outputs, -1), weight[:, :, 1:even:2].reshape(outputs, -1)
    if channels % 2 and places > 1:
        row = weight.reshape(outputs, -1)
        even = row.shape[1] // 2 * 2
        yield row[:, 0:even:2], row[:, 1:even:2]


def pair_sums(weight: NDArray[Any]) -> Floats:
    """Returns |w₁| + |w₂| of every pair of like sign, max(|w₁|, |w₂|) of the others, [N, pairs]; see `neighbours`."""
    sums = [np.zeros((len(weight), 1), np.float32)]
    for left, right in neighbours(weight):
        a, b = left.astype(np.float32), right.astype(np.float32)
        up, down = np.maximum(a, 0) + np.maximum(b, 0), np.minimum(a, 0) + np.minimum(b, 0)
        sums.append(np.maximum(up, -down))
    return np.concatenate(sums, axis=1)


def may_saturate(codes: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Returns for each output channel whether any activations could saturate it, [N]; codes: int8 [N, P, C]."""
    return np.asarray((pair_sums(codes) > LIMIT).any(1))


def bounded_scale(weight: Floats, scale: Floats) -> Floats:
    """Returns the least scale, at least the given one, at which no pair of codes exceeds LIMIT, [N].

        s = max(scale, t / 128),    t the largest pair of the output channel

    weight: [N, P, C]; scale: [N], amax / 127. Rounding keeps the bound: half to even never takes two numbers whose sum
    is at most 128, an even number, beyond it. Clipping the largest pairs at a smaller scale would gain next to nothing:
    what rounding gains, the few clipped weights lose.
    """
    largest = pair_sums(weight).max(1) / np.float32(LIMIT)
    # the next float32 above: rounding the quotient must not take a pair beyond the bound
    return np.maximum(scale, np.nextafter(largest, np.float32(np.inf)))  # type: ignore[no-any-return]


def multiply_add(u: NDArray[np.uint8], w: NDArray[np.int8]) -> NDArray[np.int32]:
    """Returns Σ over the last axis as the instruction computes it: pairs in 16 bits, saturated, then in 32 bits.

    u: uint8 [.., K], w: int8 [.., K], broadcast against each other; an odd K is padded with a zero.
    """
    products = u.astype(np.int32) * w.astype(np.int32)
    if products.shape[-1] % 2:
        products = np.concatenate([products, np.zeros_like(products[..., :1])], axis=-1)
    pairs = products[..., 0::2] + products[..., 1::2]
    return np.clip(pairs, -(2**15), 2**15 - 1).sum(-1, dtype=np.int32)  # type: ignore[no-any-return]
