"""The statistic per channel depends on the values of each channel and nothing else; bad batches leave no trace."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import CalibrationError, ChannelStatistic, Statistic
from calibration.channel_binning import Axis, channels_along
from calibration.channels import bins_for
from calibration.histograms import histograms_to_bytes, read_histograms
from helpers.messages import all_of

WIDE = st.floats(width=32, allow_nan=False, allow_infinity=False)  # subnormal to nearly the largest float32
USUAL = st.floats(-8.0, 8.0, width=32)
VALUE = st.one_of(USUAL, USUAL, st.just(0.0), st.just(-0.0), WIDE)
relaxed = settings(deadline=None, max_examples=100)


@st.composite
def rows(draw: st.DrawFn) -> np.ndarray:
    """Draws an array [rows, channels] whose channels live at very different magnitudes."""
    channels, count = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    data = draw(st.lists(VALUE, min_size=channels * count, max_size=channels * count))
    octaves = draw(st.lists(st.integers(-140, 100), min_size=channels, max_size=channels))
    with np.errstate(over="ignore", under="ignore"):
        scaled = np.ldexp(np.array(data, np.float32).reshape(count, channels), octaves).astype(np.float32)
    return np.where(np.isfinite(scaled), scaled, np.float32(3e38))


def fed(*batches: Any, axis: Axis = -1) -> ChannelStatistic:
    """Returns a statistic that has collected the batches."""
    statistic = ChannelStatistic(channels_along(batches[0], axis))
    for batch in batches:
        statistic.collect(batch, axis)
    return statistic


def same(a: ChannelStatistic, b: ChannelStatistic) -> bool:
    """Returns whether two statistics are equal to the last bit, also in a file."""
    return a == b and histograms_to_bytes({}, {"x": a}) == histograms_to_bytes({}, {"x": b})


def by_hand(x: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (amax, widths, counts) of [rows, channels] by exact arithmetic, value for value."""
    amax, widths = np.zeros(x.shape[1], np.float32), np.zeros(x.shape[1])
    counts = np.zeros((x.shape[1], bins), np.int64)
    for c in range(x.shape[1]):
        values = [abs(Fraction(float(v))) for v in x[:, c]]
        amax[c] = np.float32(float(max(values)))
        exponent = -126
        while max(values) > bins * Fraction(2) ** exponent:
            exponent += 1
        widths[c] = 2.0**exponent
        for value in values:
            counts[c, max(math.ceil(value / Fraction(2) ** exponent), 1) - 1] += 1
    return amax, widths, counts


def check(statistic: ChannelStatistic, x: np.ndarray) -> None:
    amax, widths, counts = by_hand(x, statistic.bins)
    np.testing.assert_array_equal(statistic.amax, amax)
    np.testing.assert_array_equal(statistic.widths, widths)
    np.testing.assert_array_equal(statistic.counts, counts)
    assert statistic.elements == x.size


# --- a pure function of the values ---


@relaxed
@given(rows())
def test_every_value_is_in_the_bin_that_exact_arithmetic_says(x: np.ndarray) -> None:
    check(fed(x), x)
    check(fed(torch.from_numpy(x)), x)


@relaxed
@given(rows(), st.randoms(use_true_random=False), st.lists(st.integers(1, 11), max_size=4))
def test_order_and_batch_sizes_leave_no_trace(x: np.ndarray, random: Any, cuts: list[int]) -> None:
    order = list(range(len(x)))
    random.shuffle(order)
    parts = np.split(x[order], sorted({cut % len(x) for cut in cuts} - {0}))
    whole = fed(x)
    assert same(fed(*parts), whole)
    assert same(fed(*(torch.from_numpy(part) for part in parts)), whole), "torch counts as numpy does"


@relaxed
@given(rows(), st.data())
def test_merging_equals_feeding_in_any_grouping(x: np.ndarray, data: st.DataObject) -> None:
    owner = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(x), max_size=len(x))))
    x = np.concatenate([x, x[:1], x[:1], x[:1]])  # every part holds something
    parts = [x[np.append(owner, [0, 1, 2]) == i] for i in range(3)]
    whole = fed(x)
    assert same(fed(parts[0]).merge(fed(parts[1])).merge(fed(parts[2])), whole)
    assert same(fed(parts[2]).merge(fed(parts[1]).merge(fed(parts[0]))), whole)
    assert same(fed(parts[1]).merge(ChannelStatistic(x.shape[1])).merge(fed(parts[0], parts[2])), whole)
    other = fed(parts[0])
    whole.merge(other)
    assert same(other, fed(parts[0])), "what is merged stays as it is"


def test_one_value_more_or_another_channel_is_another_statistic() -> None:
    x = np.array([[1.0, -2.0], [0.5, 0.5]], np.float32)
    assert fed(x) != fed(np.append(x, [[0.5, 0.5]], 0))
    assert fed(x) != fed(x[:, ::-1])
    assert fed(x) == fed(-x) and fed(x) != fed(x[:, :1])
    assert fed(x) != "a statistic"


@pytest.mark.parametrize("top", [1e-45, 1e-40, 1e-30, 1.0, 1e6, 1e30, 3.4e38])
def test_widths_grow_over_all_octaves_without_losing_a_value(top: float) -> None:
    steps = np.ldexp(top, -np.arange(0, 270, 3))[:, None]
    x = (steps * np.array([1.0, -1.0, 0.5], np.float32)).astype(np.float32)
    rising = fed(*(x[i : i + 1] for i in reversed(range(len(x)))))
    check(rising, x)
    assert same(rising, fed(x)) and same(rising, fed(*(torch.from_numpy(row) for row in x[:, None])))


def test_the_number_of_blocks_and_chunks_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    for shape, axis in (((700, 300), 1), ((3, 5, 60, 701), 1), ((2, 300_000), 0), ((1, 3, 400, 400), 1), ((9000,), 0)):
        x = rng.standard_normal(shape).astype(np.float32)
        whole = fed(x, axis=axis)
        assert same(whole, fed(torch.from_numpy(x), axis=axis))
        for c in {0, channels_along(x, axis) // 2, channels_along(x, axis) - 1}:
            values = np.abs(np.take(x, c, axis).astype(np.float64))
            found = np.bincount(
                np.maximum(np.ceil(values / whole.widths[c]), 1).astype(int).ravel() - 1, minlength=whole.bins
            )
            np.testing.assert_array_equal(whole.counts[c], found)


# --- forms of tensors ---


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_count_as_their_float32_values(dtype: torch.dtype) -> None:
    x = (torch.randn(300, 7, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 4, 7)).to(dtype)
    assert same(fed(x), fed(x.float()))
    if dtype is not torch.bfloat16:
        assert same(fed(x.numpy()), fed(x.float()))


AXES: list[tuple[tuple[int, ...], Axis]] = [
    ((6, 4), -1), ((6, 4), 0), ((6, 4), -2), ((2, 5, 3), 2), ((2, 5, 3), -2), ((2, 4, 3, 5), 1), ((2, 4, 3, 5), (1, 3)),
    ((2, 4, 3, 5), (3, 1)), ((2, 4, 3), (-2, -1)), ((7,), 0),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "axis"), AXES, ids=str)
def test_channels_lie_along_any_axes(shape: tuple[int, ...], axis: Axis) -> None:
    rng = np.random.default_rng(0)
    axes = [a % len(shape) for a in (axis if isinstance(axis, tuple) else (axis,))]
    x = rng.standard_normal(shape).astype(np.float32) * 10.0 ** rng.integers(-3, 3, shape).astype(np.float32)
    channels: list[list[float]] = [[] for _ in range(math.prod(shape[a] for a in axes))]
    for index in np.ndindex(shape):
        number = 0
        for a in axes:  # the last one fastest
            number = number * shape[a] + index[a]
        channels[number].append(float(x[index]))
    expected = np.array(channels, np.float32).T
    check(fed(x, axis=axis), expected)
    check(fed(torch.from_numpy(x), axis=axis), expected)


def test_attention_values_have_the_channels_of_the_projection_that_made_them() -> None:
    projected = torch.randn(2, 6, 12, generator=torch.Generator().manual_seed(0))  # [B, T, H * D]
    values = projected.view(2, 6, 3, 4).transpose(1, 2)  # [B, H, T, D]
    assert same(fed(values, axis=(1, 3)), fed(projected))
    assert same(fed(values.numpy(), axis=(1, 3)), fed(projected))


def test_gradients_inference_mode_and_strides_do_not_matter() -> None:
    x = torch.randn(50, 6)
    assert same(fed(x.clone().requires_grad_()), fed(x))
    assert same(fed(torch.stack([x, x], -1)[..., 0]), fed(x))
    assert same(fed(x.t(), axis=0), fed(x)) and same(fed(x.numpy().T, axis=0), fed(x))
    with torch.inference_mode():
        statistic = fed(x.clone())
    before = x.clone()
    statistic.collect(x, -1)
    assert torch.equal(x, before), "the tensor stays as it is"
    assert same(statistic, fed(x, x))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_counts_the_same() -> None:
    x = torch.randn(3, 70, 1000) * torch.logspace(-8, 8, 70)[:, None]
    assert same(fed(x.cuda(), axis=1), fed(x, axis=1))
    assert same(fed(x.cuda().half(), axis=(0, 1)), fed(x.half(), axis=(0, 1)))


# --- what it tells ---


@pytest.mark.parametrize("draw", ["normal", "uniform", "relu", "heavy tail", "sparse"])
def test_the_second_moment_is_true_within_the_resolution_of_the_bins(draw: str) -> None:
    rng = np.random.default_rng(0)
    x = {
        "normal": lambda: rng.standard_normal((4000, 6)),
        "uniform": lambda: rng.uniform(-1, 1, (4000, 6)),
        "relu": lambda: np.maximum(rng.standard_normal((4000, 6)), 0),
        "heavy tail": lambda: rng.standard_t(3, (4000, 6)),
        "sparse": lambda: rng.standard_normal((4000, 6)) * (rng.random((4000, 6)) < 0.02),
    }[draw]()
    x = (x * np.logspace(-3, 3, 6)).astype(np.float32)
    statistic = fed(x)
    true, width = np.square(x, dtype=np.float64).mean(0), statistic.widths
    upper = np.square(np.ceil(np.abs(x) / width) * width).mean(0) + width**2  # a zero may be anywhere in its bin
    lower = np.square(np.maximum(np.ceil(np.abs(x) / width) - 1, 0) * width).mean(0)
    found = statistic.second_moment()
    assert (lower <= found).all() and (found <= upper).all()
    if draw in ("normal", "uniform"):
        np.testing.assert_allclose(found, true, rtol=0.02)
    assert (np.abs(found - true) <= width * np.abs(x).mean(0) + width**2).all()


def test_nothing_and_zeros() -> None:
    empty = ChannelStatistic(3)
    assert empty.elements == 0 and (empty.second_moment() == 0).all() and (empty.amax == 0).all()
    zeros = fed(np.zeros((4, 3), np.float32), -np.zeros((4, 3), np.float32))
    assert zeros.elements == 24 and (zeros.counts[:, 0] == 8).all()
    assert not np.signbit(zeros.amax).any() and (zeros.second_moment() < 1e-70).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 64, 768, 2048, 2049, 3072, 4096, 5000, 16384, 16385, 50_000, 100_000])
def test_memory_is_bounded_whatever_the_number_of_channels(channels: int) -> None:
    bins = bins_for(channels)
    assert bins & (bins - 1) == 0 and 8 <= bins <= 64
    assert ChannelStatistic(channels).counts.shape == (channels, bins)
    assert channels * bins * 8 <= max(1 << 20, channels * 64)
    assert bins == 64 or channels * 2 * bins > 1 << 17, "no coarser than memory asks for"
    assert bins_for(channels + 1) <= bins


@pytest.mark.parametrize(
    ("channels", "bins"),
    [(1, 64), (2048, 64), (2049, 32), (4096, 32), (4097, 16), (8192, 16), (8193, 8), (16384, 8), (10**6, 8)],
)
def test_the_number_of_bins(channels: int, bins: int) -> None:
    assert bins_for(channels) == bins


def test_the_second_moment_of_one_bin() -> None:
    statistic = fed(np.array([[64.0, 0.0], [2.5, 0.0]], np.float32))  # bins of width 1: 63 to 64, and 2 to 3
    expected = ((64**3 - 63**3) + (3**3 - 2**3)) / 3 / 2
    assert statistic.second_moment()[0] == pytest.approx(expected)
    single = fed(np.array([[64.0]], np.float32))
    assert single.second_moment()[0] == pytest.approx((64**3 - 63**3) / 3)


def test_channel_statistics_are_told_with_and_without_a_name() -> None:
    statistic = fed(np.array([[1.0, 2.0]], np.float32))
    assert repr(statistic) == "ChannelStatistic(channels=2, elements=2, bins=64)"
    assert repr(ChannelStatistic(2, name="a")) == "ChannelStatistic('a', channels=2, elements=0, bins=64)"
    with pytest.raises(CalibrationError, match=r"^quantizer: a batch is empty"):
        statistic.collect(np.zeros((0, 2)), -1)
    with pytest.raises(CalibrationError, match=r"^channel statistic: amax missing"):
        ChannelStatistic.from_arrays({"counts": statistic.counts})
    assert ChannelStatistic(1).channels == 1


def test_many_channels_are_counted_right() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 20_000)).astype(np.float32)
    statistic = fed(x)
    assert statistic.bins == 8 and statistic.counts.nbytes == 20_000 * 64
    part = slice(7000, 7100)
    amax, widths, counts = by_hand(x[:, part], 8)
    np.testing.assert_array_equal(statistic.counts[part], counts)
    np.testing.assert_array_equal(statistic.amax[part], amax)
    np.testing.assert_array_equal(statistic.widths[part], widths)


def test_amax_is_that_of_the_statistic_per_tensor() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100, 9)).astype(np.float32)
    whole = Statistic()
    whole.collect(x)
    statistic = fed(x)
    assert (float(statistic.amax.max()), statistic.elements) == (whole.amax, whole.elements)


# --- refusals ---

UNUSABLE: dict[str, tuple[Any, Axis, str]] = {
    "NaN": (torch.tensor([[1.0, 2.0, math.nan]]), -1, "first in channel 2"),
    "infinity": (np.array([[1.0, -np.inf, 2.0]]), -1, "first in channel 1"),
    "infinite half": (torch.full((2, 3), 1e6).half(), -1, "first in channel 0"),
    "too large": (np.array([[1.0, 1.0, 1e300]]), -1, "beyond float32, first in channel 2"),
    "integers": (torch.ones(2, 3, dtype=torch.int64), -1, "int64, shape (2, 3)"),
    "integer array": (np.ones((2, 3), np.int8), -1, "int8, shape (2, 3)"),
    "boolean": (torch.ones(2, 3, dtype=torch.bool), -1, "bool"),
    "empty": (torch.ones(0, 3), -1, "empty, shape (0, 3)"),
    "sparse": (torch.eye(3).to_sparse(), -1, "not a dense tensor"),
    "no values": (torch.ones(2, 3, device="meta"), -1, "not a dense tensor"),
    "list": ([[1.0, 2.0, 3.0]], -1, "list"),
    "other channels": (np.ones((3, 4), np.float32), -1, "shape (3, 4) does not have 3 channels along axis -1"),
    "no such axis": (np.ones((3, 3), np.float32), 2, "does not have 3 channels along axis 2"),
    "no such axes": (np.ones((3, 3), np.float32), (1, 3), "does not have 3 channels along axis (1, 3)"),
    "scalar": (np.ones((), np.float32), -1, "does not have 3 channels"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_batch_is_named_and_leaves_no_trace(case: str) -> None:
    x, axis, said = UNUSABLE[case]
    good = np.array([[1.0, -3.0, 0.0]], np.float32)
    statistic = ChannelStatistic(3, name="encoder.0.query.input")
    statistic.collect(good, -1)
    with pytest.raises(CalibrationError, match=all_of("'encoder.0.query.input'", said, "Nothing of it was counted")):
        statistic.collect(x, axis)
    assert same(statistic, fed(good))


def test_a_statistic_needs_channels_and_merges_with_its_like() -> None:
    with pytest.raises(CalibrationError, match="channels = 0"):
        ChannelStatistic(0)
    with pytest.raises(CalibrationError, match=r"'a', channels=2.*'b', channels=3.*channels differ"):
        ChannelStatistic(2, name="a").merge(ChannelStatistic(3, name="b"))


# --- files ---


@relaxed
@given(st.lists(rows(), max_size=2))
def test_arrays_carry_the_whole_state(batches: list[np.ndarray]) -> None:
    statistic = ChannelStatistic(2)
    for batch in batches:
        statistic.collect(np.resize(batch, (len(batch), 2)), -1)
    again = ChannelStatistic.from_arrays(statistic.to_arrays(), name="x")
    assert same(again, statistic) and again.name == "x"
    again.collect(np.ones((1, 2), np.float32), -1)
    statistic.collect(np.ones((1, 2), np.float32), -1)
    assert same(again, statistic), "and the next batch counts as if nothing had happened"


def good_arrays() -> dict[str, Any]:
    return fed(np.array([[1.0, 20.0], [1.5, -30.0]], np.float32)).to_arrays()


def moved(arrays: dict[str, Any]) -> np.ndarray:
    """Returns the counts with one value of channel 0 in a bin above its amax."""
    counts: np.ndarray = arrays["counts"].copy()
    counts[0, np.flatnonzero(counts[0])[-1]] -= 1
    counts[0, -1] += 1
    return counts


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "missing amax": ({"amax": None}, "amax missing; found counts"),
    "missing counts": ({"counts": None}, "counts missing; found amax"),
    "float64 amax": ({"amax": np.array([2.0, 30.0])}, "float64"),
    "float counts": ({"counts": np.ones((2, 64))}, "float64"),
    "scalar amax": ({"amax": np.array(2.0, np.float32)}, "amax is float32"),
    "no channels": ({"amax": np.zeros(0, np.float32), "counts": np.zeros((0, 64), np.int64)}, "amax is float32"),
    "other channels": ({"amax": np.array([2.0, 30.0, 1.0], np.float32)}, "counts have shape (2, 64), not (3, 64)"),
    "other bins": ({"counts": np.ones((2, 32), np.int64)}, "counts have shape (2, 32)"),
    "one row": ({"counts": np.ones(64, np.int64)}, "counts have shape (64,)"),
    "NaN amax": ({"amax": np.array([np.nan, 30.0], np.float32)}, "not finite"),
    "infinite amax": ({"amax": np.array([np.inf, 30.0], np.float32)}, "not finite"),
    "negative amax": ({"amax": np.array([-2.0, 30.0], np.float32)}, "not finite, or"),
    "negative counts": ({"counts": -good_arrays()["counts"]}, "count is negative"),
    "uneven channels": ({"counts": good_arrays()["counts"] * np.array([[1], [2]])}, "different numbers of values"),
    "amax of another histogram": ({"amax": np.array([1.5, 90.0], np.float32)}, "amax 90 of channel 1"),
    "a value above amax": ({"counts": moved(good_arrays())}, "amax 1.5 of channel 0"),
    "amax without values": ({"counts": np.zeros((2, 64), np.int64)}, "amax 1.5 of channel 0"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_arrays_that_break_an_invariant_are_refused(case: str) -> None:
    changes, said = BROKEN[case]
    arrays = {**good_arrays(), **changes}
    ChannelStatistic.from_arrays(good_arrays(), name="key.input")
    with pytest.raises(CalibrationError, match=all_of("'key.input'", said)):
        ChannelStatistic.from_arrays({k: v for k, v in arrays.items() if v is not None}, name="key.input")


def test_a_file_holds_shared_statistics_once_and_a_changed_byte_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 6)).astype(np.float32)
    tensor, other = Statistic(), Statistic()
    tensor.collect(x)
    other.collect(2 * x)
    channels = fed(x)
    shared = histograms_to_bytes({"query": tensor, "key": tensor, "out": other}, {"query": channels, "key": channels})
    path = tmp_path / "calibration.npz"
    path.write_bytes(shared)
    statistics, per_channel = read_histograms(path)
    assert statistics == {"query": tensor, "key": tensor, "out": other} and statistics["query"] is statistics["key"]
    assert (statistics["query"].name, per_channel["query"].name) == ("key", "key"), "the first of those that share it"
    assert per_channel == {"query": channels, "key": channels} and per_channel["query"] is per_channel["key"]
    assert sum(name.endswith("/amax") for name in np.load(path).files) == 3
    refused = 0
    for position in range(0, len(shared), 7):
        path.write_bytes(shared[:position] + bytes([shared[position] ^ 0x55]) + shared[position + 1 :])
        try:
            assert read_histograms(path) == (statistics, per_channel), "a byte that means nothing"
        except CalibrationError as fault:
            assert str(path) in str(fault)
            refused += 1
    assert refused > len(shared) // 7 / 3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("channels/0/amax", None),
        ("channels/names", None),
        ("channels/names", np.array(["query"])),
        ("channels/place", np.array([0, 1])),
        ("channels/0/counts", np.ones((6, 64), np.int64)),
    ],
)
def test_channels_that_do_not_belong_together_are_refused(key: str, value: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    channels = fed(rng.standard_normal((40, 6)).astype(np.float32))
    path = tmp_path / "calibration.npz"
    path.write_bytes(histograms_to_bytes({}, {"query": channels, "key": channels}))
    with np.load(path) as archive:
        arrays = {**archive, key: value}
    np.savez(path, allow_pickle=False, **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(CalibrationError, match=r"calibration\.npz"):
        read_histograms(path)
