"""The arithmetic of symmetric quantization: amax → scale → integers → numbers again.

    scale = amax / high
    q     = clip(round(x / scale), low, high)          [low, high] = [−128, 127] for signed 8 bits
    x̂     = scale · q

The zero point is 0, ties round to even, the division is a true one, and all of it is float32: what the ONNX
specification asks of QuantizeLinear and DequantizeLinear (Wu et al. 2020, arXiv:2004.09602, 3.1). PyTorch's side,
`pipeline.quantization`, computes with its own operators; a test holds the two equal bit by bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.errors import CalibrationError

Floats = npt.NDArray[np.float32]

# Below this, amax / 127 (or / 255) is a subnormal float32: the scale loses digits.
SMALLEST_AMAX = 2.0**-118


def code_range(num_bits: int = 8, unsigned: bool = False, narrow: bool = False) -> tuple[int, int]:
    """Returns (low, high), the smallest and the largest integer of a quantizer; `narrow` leaves out −high − 1."""
    high = 2 ** (num_bits - 1 + int(unsigned)) - 1
    if high < 1:
        raise CalibrationError(f"{num_bits} signed bits have no value above 0")
    return (0 if unsigned else -high if narrow else -high - 1), high


LOW, HIGH = code_range()


def scale_of(amax: npt.ArrayLike, high: int = HIGH) -> Floats:
    """Returns amax / high, a scalar for one value, else one scale per channel.  # [] or [C]

    An amax of 0 gets the scale 1: any scale represents zeros exactly. Raises CalibrationError for an amax that is
    negative, infinite or NaN.
    """
    values = np.asarray(amax, np.float32)
    if not (np.isfinite(values) & (values >= 0)).all():
        raise CalibrationError("amax has values that are negative, infinite or NaN")
    scale = values / np.float32(high)
    scale = np.where(scale > 0, scale, np.float32(1))  # scale, not amax: the quotient may underflow
    return scale.reshape(()) if scale.size == 1 else scale


def usable(scale: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Returns whether a quantizer can divide by each scale: finite and positive."""
    return np.asarray(np.isfinite(scale) & (scale > 0))


@dataclass(frozen=True, eq=False)
class Grid:
    """The numbers that a quantizer represents: scale · q for the integers q from `low` to `high`.

    Invariants, checked by `validate` on construction:

      * every scale is finite and positive
      * `scale` is a float32 scalar if `axis` is None, else float32 [C], one value per index of `axis`
      * low ≤ 0 < high
    """

    scale: Floats
    axis: int | None = None
    low: int = LOW
    high: int = HIGH

    def __post_init__(self) -> None:
        validate(self)

    @classmethod
    def covering(cls, amax: npt.ArrayLike, axis: int | None = None, low: int = LOW, high: int = HIGH) -> Grid:
        """Returns the finest grid that reaches amax: per tensor for one value, per channel of `axis` for several."""
        scale = scale_of(amax, high)
        return cls(scale, axis if scale.ndim else None, low, high)

    def quantize(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Returns the integers nearest to x / scale, in x's shape: int8 where the range fits, else int32."""
        return self._steps(x).astype(np.int8 if self.low >= LOW and self.high <= HIGH else np.int32)

    def dequantize(self, codes: npt.NDArray[Any]) -> Floats:
        """Returns scale · codes, in the shape of `codes`."""
        return np.asarray(codes.astype(np.float32) * self._along_axis(codes))

    def round(self, x: npt.NDArray[Any]) -> Floats:
        """Returns the grid number nearest to each x: dequantize(quantize(x)) in one step."""
        steps = self._steps(x)
        return np.multiply(steps, self._along_axis(x), out=steps)

    def _steps(self, x: npt.NDArray[Any]) -> Floats:
        steps = np.asarray(np.divide(x, self._along_axis(x), dtype=np.float32))
        np.rint(steps, out=steps)
        np.clip(steps, self.low, self.high, out=steps)
        return steps

    def _along_axis(self, x: npt.NDArray[Any]) -> Floats:
        """Returns the scale in a shape that broadcasts to x. Raises CalibrationError if the channels differ."""
        if self.axis is None:
            return self.scale
        if not -x.ndim <= self.axis < x.ndim or x.shape[self.axis] != len(self.scale):
            raise CalibrationError(f"{len(self.scale)} scales along axis {self.axis} do not fit the shape {x.shape}")
        return self.scale.reshape([-1 if i == self.axis % x.ndim else 1 for i in range(x.ndim)])


def validate(grid: Grid) -> None:
    """Raises CalibrationError for a grid that breaks one of its invariants."""
    scale = grid.scale
    if scale.dtype != np.float32 or scale.ndim != (grid.axis is not None):
        raise CalibrationError(f"a scale for axis {grid.axis} cannot be {scale.dtype} of shape {scale.shape}")
    if not usable(scale).all():
        raise CalibrationError(f"a scale must be positive and finite, got {scale[~usable(scale)][0]}")
    if not grid.low <= 0 < grid.high:
        raise CalibrationError(f"the integers from {grid.low} to {grid.high} do not lie around 0")
