"""pytorch-quantization's TensorQuantizer, exportable by `torch.export`, loadable on a CPU, with our calibrators."""

from __future__ import annotations

from typing import Any

import torch
from absl import logging as absl_logging
from pytorch_quantization.calib import MaxCalibrator
from pytorch_quantization.nn import TensorQuantizer as LibraryQuantizer
from pytorch_quantization.tensor_quant import QuantDescriptor
from pytorch_quantization.utils import reduce_amax

from calibration.arithmetic import code_range
from calibration.calibrator import HistogramCalibrator
from calibration.errors import CalibrationError
from pipeline.quantization.fake_quantize import PER_TENSOR, computed_in, fake_quantize

absl_logging.set_verbosity(absl_logging.ERROR)  # the library logs a line for every state change


class TensorQuantizer(LibraryQuantizer):
    """A place that gets a Q/DQ pair; behaves like the library's class, with these differences.

    * The forward pass is one custom operator, so that `torch.export` keeps it whole.
    * A stored `_amax` loads on the device of the module, not on CUDA.
    * Per-tensor histogram calibration uses one mergeable statistic, from which every method is computed.
    * An amax of as many dimensions as there are axes lies along them; the library broadcasts it to the last ones.
    * Negative axes count from the end; the library ignores them, and those that x lacks.
    * Half precision is computed in float32 and rounded once; the library rounds the scale too, to zero below 1.9e-3.
    * A nonzero amax up to 2⁻²⁴ is valid, as in ONNX; the library makes such a tensor 0.
    * Empty tensors pass. Integers, whose scale the library rounds to one, and fewer than 2 levels are refused.

    `name` is the quantizer's module path, set when it is inserted in a model.
    """

    _calibrator: Any = None  # the library sets none for an unknown calib_method

    def __init__(self, quant_desc: QuantDescriptor = QuantDescriptor(), *switches: bool, **named: bool) -> None:  # noqa: B008
        super().__init__(quant_desc, *switches, **named)
        self.name = ""
        if quant_desc.calib_method == "histogram" and quant_desc.axis is None:
            self._calibrator = HistogramCalibrator(self._num_bits, None, self._unsigned)
        elif quant_desc.calib_method == "max":
            self._calibrator = _MaxCalibrator(self._num_bits, self._axis, self._unsigned)

    def calibrate_channels(self, axis: int | tuple[int, ...]) -> None:
        """Makes a histogram calibrator keep a statistic per channel along `axis` as well."""
        if isinstance(self._calibrator, HistogramCalibrator):
            self._calibrator.channel_axis = axis

    @property
    def codes(self) -> tuple[int, int]:
        """The smallest and the largest integer, (−128, 127) for signed 8 bits. Raises ValueError for too few bits."""
        try:
            return code_range(self._num_bits, self._unsigned, self._narrow_range)
        except CalibrationError as fault:
            raise ValueError(f"{self.name or 'quantizer'}: {fault}.") from None

    @property
    def bound(self) -> int:
        """The largest integer, which stands for amax."""
        return self.codes[1]

    @property
    def is_enabled(self) -> bool:
        return not self._disabled

    def set_amax(self, amax: torch.Tensor) -> None:
        """Stores amax: a scalar, or one value per channel along the quantizer's axis."""
        value = amax.detach().to(torch.float32)
        if "_amax" in self._buffers:
            value = value.to(self._amax.device)
            del self._buffers["_amax"]
        self.register_buffer("_amax", value)

    def _get_amax(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns amax, the stored one or that of `inputs`, in a shape that broadcasts to them."""
        axes, wide = axes_of(self._axis, inputs.dim()), computed_in(inputs)
        if "_amax" in self._buffers:
            amax = self._amax
            if axes and amax.dim() == len(axes):
                sizes = iter(amax.shape)
                amax = amax.reshape([next(sizes) if i in axes else 1 for i in range(inputs.dim())])
        elif inputs.numel():
            others = [i for i in range(inputs.dim()) if i not in axes]
            amax = reduce_amax(inputs, others if axes else None).detach()
        else:
            amax = inputs.new_zeros(())
        return amax.to(wide) if self._scale_amax is None else amax.to(wide) * self._scale_amax

    def _quant_forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if not inputs.is_floating_point():
            raise TypeError(f"{self.name or 'quantizer'}: x is {inputs.dtype}, not a floating-point tensor.")
        if not self._fake_quant:
            return super()._quant_forward(inputs)
        if self._learn_amax:
            inputs = self.clip(inputs)
            amax = torch.max(-self.clip.clip_value_min, self.clip.clip_value_max).detach()
        else:
            amax = self._get_amax(inputs)
        axes = axes_of(self._axis, inputs.dim())
        along = len(axes) == 1 and amax.dim() == inputs.dim() and amax.numel() == amax.shape[axes[0]]
        axis = axes[0] if along else PER_TENSOR
        if along or amax.numel() == 1:
            amax = amax.reshape(-1 if along else ())
        low, high = self.codes
        scale = amax / high
        # a channel of zeros has amax 0; any positive scale represents it exactly
        scale = torch.where(scale == 0, torch.ones_like(scale), scale)
        return fake_quantize(inputs, scale, axis, low, high, self.name, amax)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        stored = state_dict.get(prefix + "_amax")
        if stored is not None:
            self.set_amax(stored)
        # the library's override would call .cuda(): go past it to nn.Module
        torch.nn.Module._load_from_state_dict(self, state_dict, prefix, *args, **kwargs)


class _MaxCalibrator(MaxCalibrator):  # type: ignore[misc]  # the library ships no types
    """The library's max calibrator, for negative axes and empty tensors too."""

    _axis: Any

    def collect(self, x: torch.Tensor) -> None:
        axes = axes_of(self._axis, x.dim())
        if x.numel():
            self._axis = axes
            super().collect(x)


def axes_of(axis: int | tuple[int, ...] | list[int] | None, rank: int) -> tuple[int, ...]:
    """Returns the axes with an amax per index, in ascending order; none for one amax per tensor.

    Raises ValueError for an axis that a tensor of this rank lacks.
    """
    given = () if axis is None else (axis,) if isinstance(axis, int) else axis
    wrong = [i for i in given if not -rank <= i < rank]
    if wrong:
        raise ValueError(f"axis {wrong[0]} does not exist in a tensor of {rank} dimensions.")
    return tuple(sorted({i % rank for i in given}))
