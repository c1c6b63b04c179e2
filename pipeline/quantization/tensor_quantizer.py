"""pytorch-quantization's TensorQuantizer, exportable by `torch.export`, loadable on a CPU, fed to our calibrators."""

from __future__ import annotations

from typing import Any

import torch
from absl import logging as absl_logging
from pytorch_quantization.nn import TensorQuantizer as LibraryQuantizer
from pytorch_quantization.tensor_quant import QuantDescriptor

from calibration.calibrator import HistogramCalibrator
from pipeline.quantization.fake_quantize import PER_TENSOR, fake_quantize

absl_logging.set_verbosity(absl_logging.ERROR)  # the library logs a line for every state change


class TensorQuantizer(LibraryQuantizer):
    """A place that gets a Q/DQ pair; behaves as the library's class, with three differences.

    * The forward pass is one custom operator, so that `torch.export` keeps it whole.
    * A stored `_amax` loads on the device of the module, not on CUDA.
    * Per-tensor histogram calibration uses one mergeable statistic, from which every method is computed.

    `name` is the quantizer's module path, set when it is inserted in a model.
    """

    def __init__(self, quant_desc: QuantDescriptor, **switches: Any) -> None:
        super().__init__(quant_desc, **switches)
        self.name = ""
        if quant_desc.calib_method == "histogram" and quant_desc.axis is None:
            self._calibrator = HistogramCalibrator(self._num_bits, None, self._unsigned)

    def calibrate_channels(self, axis: int | tuple[int, ...]) -> None:
        """Makes calibration keep a statistic per channel along `axis` as well, where it collects histograms."""
        if isinstance(self._calibrator, HistogramCalibrator):
            self._calibrator.channel_axis = axis

    @property
    def bound(self) -> int:
        """The largest quantized value: 127 for signed 8 bits."""
        return int(2 ** (self._num_bits - 1 + int(self._unsigned))) - 1

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

    def _quant_forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self._learn_amax or not self._fake_quant:
            return super()._quant_forward(inputs)
        amax = self._get_amax(inputs)
        scale = amax / self.bound
        # a channel of zeros has amax 0; any positive scale represents it exactly
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        axis = PER_TENSOR if self._axis is None else int(self._axis) % inputs.dim()
        scale = scale.reshape(()) if axis == PER_TENSOR else scale.reshape(-1)
        low = 0 if self._unsigned else (-self.bound if self._narrow_range else -self.bound - 1)
        return fake_quantize(inputs, scale.to(inputs.dtype), axis, low, self.bound, self.name)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        stored = state_dict.get(prefix + "_amax")
        if stored is not None:
            self.set_amax(stored)
        # the library's override would call .cuda(): go past it to nn.Module
        torch.nn.Module._load_from_state_dict(self, state_dict, prefix, *args, **kwargs)
