"""The statistic as a calibrator of pytorch-quantization: `quantizer._calibrator = HistogramCalibrator()`."""

from __future__ import annotations

import threading

import torch
from pytorch_quantization.calib.calibrator import _Calibrator

from calibration.channel_binning import Axis, channels_along
from calibration.channels import ChannelStatistic
from calibration.errors import CalibrationError
from calibration.methods import compute_amax
from calibration.statistics import Statistic


class HistogramCalibrator(_Calibrator):  # type: ignore[misc]  # the library ships no types
    """Collects one `Statistic`; every method is read from it afterwards, on a CPU as well as on a GPU.

    It follows the library's protocol: TensorQuantizer.forward calls `collect`, and load_calib_amax passes its
    arguments to `compute_amax`, where None means there is no amax (the quantizer then refuses, or warns).
    """

    def __init__(
        self,
        num_bits: int = 8,
        axis: int | tuple[int, ...] | None = None,
        unsigned: bool = False,
        num_bins: int = 2048,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(num_bits, axis, unsigned)
        if axis is not None:
            raise CalibrationError(
                f"axis = {axis}: a histogram is per tensor; per channel there is calibration.weight_amax"
            )
        self._bins = num_bins
        self._lock = threading.Lock()  # batches may come from several threads
        self._name = name
        self.channel_axis: Axis | None = None  # if set, each channel along it is counted separately too
        self.reset()

    @property
    def statistic(self) -> Statistic:
        """What was collected so far."""
        return self._statistic

    @property
    def channels(self) -> ChannelStatistic | None:
        """What was collected per channel; None without a channel axis, and before the first batch."""
        return self._channels

    def rename(self, name: str) -> None:
        """Sets the quantizer's name for messages."""
        self._name = self._statistic.name = name
        if self._channels is not None:
            self._channels.name = name

    def reset(self) -> None:
        """Forgets everything collected."""
        self._statistic = Statistic(self._bins, name=self._name)
        self._channels: ChannelStatistic | None = None

    def collect(self, x: torch.Tensor) -> None:
        """Adds one batch; thread-safe."""
        with self._lock:
            self._statistic.collect(x)
            if self.channel_axis is not None:
                if self._channels is None:
                    self._channels = ChannelStatistic(channels_along(x, self.channel_axis), name=self._name)
                self._channels.collect(x, self.channel_axis)

    def compute_amax(self, method: str = "max", *, percentile: float = 99.99) -> torch.Tensor | None:
        """Returns amax as a scalar tensor, or None when nothing, or nothing but zeros, was collected."""
        if self._statistic.is_degenerate:
            return None
        amax = compute_amax(
            self._statistic, method, percentile=percentile, num_bits=self._num_bits, unsigned=self._unsigned
        )
        return torch.tensor(amax, dtype=torch.float32)

    def __repr__(self) -> str:
        return f"HistogramCalibrator({super().__repr__()} {self._statistic!r})"
