"""Agreement with pytorch-quantization's own calibrators, and service as its plug-in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calibration import CalibrationError, ChannelStatistic, HistogramCalibrator, Statistic, compute_amax
from calibration.channel_binning import Axis, channels_along

calib = pytest.importorskip("pytorch_quantization.calib", reason="needs pytorch-quantization")
quant_nn = pytest.importorskip("pytorch_quantization.nn", reason="needs pytorch-quantization")
tensor_quant = pytest.importorskip("pytorch_quantization.tensor_quant", reason="needs pytorch-quantization")

# No percentile below falls on a whole number of values: there the library's sum of float shares is off by one
# value or not as rounding wills, which in a thin tail is many bins.
DRAWS = {
    "normal": lambda: torch.randn(3, 4001),
    "relu": lambda: torch.randn(3, 4001).relu(),
    "heavy tail": lambda: torch.distributions.StudentT(3.0).sample((3, 4001)),
    "gelu": lambda: torch.nn.functional.gelu(2 * torch.randn(3, 4001)),
    "softmax": lambda: torch.softmax(6 * torch.randn(3, 40, 101), -1),
}


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the library's mse run where there is no GPU: it calls .cuda() on its histogram."""
    torch.manual_seed(0)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)


def batches(draw: str) -> list[torch.Tensor]:
    """Returns batches whose amax is a power of two, so that both histograms have the very same bins."""
    x = DRAWS[draw]()
    x = x * (4.0 / x.abs().max())
    # The library fixes its bin width by the first batch.
    return sorted(x, key=lambda batch: -float(batch.abs().max()))


def theirs(x: list[torch.Tensor], unsigned: bool, num_bits: int, bins: int) -> calib.HistogramCalibrator:
    calibrator = calib.HistogramCalibrator(num_bits, None, unsigned, num_bins=bins)
    for batch in x:
        # It collects a batch without negative values as it is, otherwise absolute values, as we do.
        calibrator.collect(batch)
    return calibrator


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("num_bits", [4, 8])
@pytest.mark.parametrize(
    ("method", "bins"),
    [("percentile", 2048), ("percentile", 256), ("mse", 2048), ("mse", 256), ("entropy", 256)],
)
def test_agrees_with_the_library_within_one_bin(draw: str, num_bits: int, method: str, bins: int) -> None:
    x = batches(draw)
    unsigned = bool(min(float(batch.min()) for batch in x) >= 0)
    ours = HistogramCalibrator(num_bits, None, unsigned, bins)
    for batch in x:
        ours.collect(batch)
    reference = theirs(x, unsigned, num_bits, bins)
    # Values exactly on an edge belong to the bin above in torch.histc and to the one below here.
    moved = np.abs(reference._calib_hist.numpy() - ours.statistic.histogram()).sum()
    assert moved <= 4
    for percentile in (99.0, 99.9, 99.99) if method == "percentile" else (99.99,):
        expected = reference.compute_amax(method, percentile=percentile)
        amax = ours.compute_amax(method, percentile=percentile)
        assert amax.dtype == torch.float32 and amax.shape == ()
        assert abs(float(amax) - float(expected)) <= ours.statistic.width


@pytest.mark.parametrize("scale", [0.013, 1.0, 37.0])
def test_percentile_agrees_whatever_the_range(scale: float) -> None:
    x = torch.randn(5, 9000) * scale
    reference = theirs(sorted(x, key=lambda batch: -float(batch.abs().max())), False, 8, 2048)
    statistic = Statistic()
    for batch in x:
        statistic.collect(batch)
    for percentile in (90.0, 99.0, 99.9, 99.99):
        expected = float(reference.compute_amax("percentile", percentile=percentile))
        assert abs(compute_amax(statistic, "percentile", percentile=percentile) - expected) <= 2 * statistic.width


def test_where_the_library_fails_there_is_an_answer() -> None:
    # Nothing below the first candidate: its divergence is 0/0 and argmin takes the NaN.
    counts = np.zeros(256, np.int64)
    counts[200:] = np.arange(56, 0, -1)
    statistic = Statistic(256)
    statistic.collect(np.repeat(np.arange(256, dtype=np.float32) + 0.5, counts))
    assert compute_amax(statistic, "entropy") > 200


def quantizer() -> quant_nn.TensorQuantizer:
    module = quant_nn.TensorQuantizer(tensor_quant.QuantDescriptor())
    module._calibrator = HistogramCalibrator(name="input")
    module.disable_quant()
    module.enable_calib()
    return module


@pytest.mark.parametrize(("arguments", "key"), [([], "max"), (["percentile"], "percentile"), (["mse"], "mse")])
def test_serves_a_tensor_quantizer(arguments: list[str], key: str) -> None:
    module, x = quantizer(), torch.randn(8, 16)
    module(x[:4])
    module(x[4:])
    module.load_calib_amax(*arguments)
    statistic = Statistic()
    statistic.collect(x)
    assert float(module.amax) == compute_amax(statistic, key)
    module.disable_calib()
    module.enable_quant()
    error = (module(x) - x.clamp(-module.amax, module.amax)).abs().max()
    assert 0 < error <= module.amax / 127 / 2 * 1.001


def test_nothing_collected_is_none_as_the_protocol_wants() -> None:
    module = quantizer()
    with pytest.raises(RuntimeError, match="Calibrator returned None"):
        module.load_calib_amax("entropy")
    module(torch.zeros(3))
    assert module._calibrator.compute_amax() is None


def test_reset_forgets() -> None:
    calibrator = HistogramCalibrator(name="input")
    calibrator.collect(torch.ones(3))
    calibrator.reset()
    assert calibrator.statistic == Statistic() and calibrator.statistic.name == "input"
    assert repr(calibrator) == (
        "HistogramCalibrator(num_bits=8 axis=None unsigned=False "
        "Statistic('input', amax=0, elements=0, batches=0, bins=2048))"
    )


def test_per_channel_is_refused_with_the_way_out() -> None:
    with pytest.raises(CalibrationError, match="weight_amax"):
        HistogramCalibrator(axis=0)


# --- channels ---


@pytest.mark.parametrize("axis", [-1, 1, (1, 3)], ids=str)
def test_with_a_channel_axis_it_collects_per_channel_as_well(axis: Axis) -> None:
    x = torch.randn(8, 3, 5, 4)
    module = quantizer()
    assert module._calibrator.channels is None and module._calibrator.channel_axis is None
    module._calibrator.channel_axis = axis
    assert module._calibrator.channels is None, "nothing before the first batch"
    module(x[:5])
    module(x[5:])
    expected = ChannelStatistic(channels_along(x, axis))
    expected.collect(x, axis)
    assert module._calibrator.channels == expected and module._calibrator.channels.name == "input"
    statistic = module._calibrator.statistic
    assert (statistic.elements, statistic.amax) == (expected.elements, float(expected.amax.max()))
    module.load_calib_amax()
    assert float(module.amax) == statistic.amax, "amax stays one for the whole tensor"


def test_without_a_channel_axis_nothing_is_collected_per_channel() -> None:
    module = quantizer()
    module(torch.randn(8, 16))
    assert module._calibrator.channels is None


def test_names_reach_both_statistics_and_reset_keeps_the_axis() -> None:
    calibrator = HistogramCalibrator(name="first")
    calibrator.channel_axis = -1
    calibrator.rename("second")
    calibrator.collect(torch.ones(3, 4))
    calibrator.rename("third")
    assert calibrator.channels is not None
    assert (calibrator.statistic.name, calibrator.channels.name) == ("third", "third")
    with pytest.raises(CalibrationError, match=r"quantizer 'third'"):
        calibrator.collect(torch.full((3, 4), torch.nan))
    assert calibrator.statistic.elements == calibrator.channels.elements == 12
    calibrator.reset()
    assert calibrator.channels is None and calibrator.channel_axis == -1
    calibrator.collect(torch.ones(3, 4))
    assert calibrator.channels is not None and calibrator.channels.name == "third"


def test_a_batch_with_other_channels_is_refused_by_name() -> None:
    calibrator = HistogramCalibrator(name="input")
    calibrator.channel_axis = -1
    calibrator.collect(torch.ones(3, 4))
    with pytest.raises(
        CalibrationError, match=r"quantizer 'input': a batch of shape \(3, 5\) does not have 4 channels"
    ):
        calibrator.collect(torch.ones(3, 5))
    assert calibrator.channels is not None and calibrator.channels.elements == 12
