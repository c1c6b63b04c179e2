"""The statistic depends on the values seen and on nothing else; unusable batches leave no trace in it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import CalibrationError, Statistic
from calibration.binning import coarsen, exponent_for, flatten
from helpers.messages import all_of

# Magnitudes from subnormal to nearly the largest float32: the width grows over the whole range of exponents.
wide = st.floats(width=32, allow_nan=False, allow_infinity=False)
usual = st.floats(-8.0, 8.0, width=32)
values = st.lists(st.one_of(usual, usual, st.just(0.0), wide), min_size=1, max_size=60)
some_bins = st.sampled_from([2, 16, 256, 2048])
relaxed = settings(deadline=None, max_examples=150)


def fed(*batches: object, bins: int = 2048) -> Statistic:
    """Returns a statistic that has collected the batches."""
    statistic = Statistic(bins)
    for batch in batches:
        statistic.collect(batch)  # type: ignore[arg-type]
    return statistic


def split(x: np.ndarray, cuts: list[int]) -> list[np.ndarray]:
    borders = sorted({cut % len(x) for cut in cuts} - {0})
    return np.split(x, borders)


@relaxed
@given(values, some_bins)
def test_every_value_is_in_the_bin_that_exact_arithmetic_says(data: list[float], bins: int) -> None:
    statistic = fed(np.array(data, np.float32), bins=bins)
    amax = max(abs(v) for v in data)
    exponent = -126
    while Fraction(amax) > bins * Fraction(2) ** exponent:
        exponent += 1
    expected = np.zeros(bins + 1, np.int64)
    for value in data:
        expected[math.ceil(abs(Fraction(value)) / Fraction(2) ** exponent)] += 1
    np.testing.assert_array_equal(statistic.counts, expected)
    assert (statistic.amax, statistic.width) == (amax, 2.0**exponent)
    assert statistic.elements == len(data)
    assert statistic.zeros == data.count(0.0)
    assert statistic.has_negative == any(v < 0 for v in data)


@relaxed
@given(values, some_bins, st.lists(st.integers(1, 10**6), max_size=5), st.randoms(use_true_random=False))
def test_order_and_batch_sizes_leave_no_trace(data, bins, cuts, random) -> None:
    whole = fed(np.array(data, np.float32), bins=bins)
    random.shuffle(data)
    x = np.array(data, np.float32)
    in_batches = fed(*split(x, cuts), bins=bins)
    assert in_batches == whole
    assert fed(*(torch.from_numpy(part) for part in split(x, cuts)), bins=bins) == whole


@relaxed
@given(values, values, values, some_bins)
def test_merging_equals_feeding_in_any_grouping(a, b, c, bins) -> None:
    x, y, z = (np.array(part, np.float32) for part in (a, b, c))
    whole = fed(x, y, z, bins=bins)
    left = fed(x, bins=bins).merge(fed(y, bins=bins)).merge(fed(z, bins=bins))
    right = fed(z, bins=bins).merge(fed(y, bins=bins).merge(fed(x, bins=bins)))
    assert left == right == whole
    assert left.batches == whole.batches == 3
    assert whole.merge(Statistic(bins)) == left


def test_one_value_more_is_another_statistic() -> None:
    x = np.array([1.0, -2.0, 0.5], np.float32)
    assert fed(x) != fed(np.append(x, np.float32(0.5)))
    assert fed(x) != fed(np.abs(x))
    assert fed(x) != fed(x, bins=256)


@pytest.mark.parametrize("size", [1, 131_071, 131_072, 300_001])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e6])
def test_large_tensors_are_counted_completely(size: int, scale: float) -> None:
    x = torch.randn(size, generator=torch.Generator().manual_seed(size)) * scale
    x[::7] = 0.0
    statistic = fed(x)
    assert statistic == fed(x.numpy()) == fed(x[: size // 2 + 1], *([x[size // 2 + 1 :]] if size > 1 else []))
    assert statistic.elements == size
    assert statistic.zeros == int((x == 0).sum())


def test_a_tiny_value_beside_a_huge_one_is_no_zero() -> None:
    statistic = fed(np.array([1e-40, 0.0], np.float32), np.array([1e30], np.float32))
    assert statistic == fed(torch.tensor([1e-40, 0.0, 1e30]))
    assert statistic.zeros == 1


VIEWS: dict[str, Callable[[torch.Tensor], object]] = {
    "heads": lambda x: x.view(4, 6, 3, 8).permute(0, 2, 3, 1),
    "transposed array": lambda x: x.numpy().reshape(24, 24).T,
    "strided": lambda x: torch.stack([x, x], -1)[..., 0],
    "with gradient": lambda x: x.clone().requires_grad_(),
    "float64": lambda x: x.double(),
    "float64 array": lambda x: x.double().numpy(),
    "scalar by scalar": lambda x: x.view(24, 24),
}


@pytest.mark.parametrize("view", VIEWS)
def test_the_form_of_the_tensor_does_not_matter(view: str) -> None:
    x = torch.randn(576, generator=torch.Generator().manual_seed(0))
    assert fed(VIEWS[view](x)) == fed(x)


def test_dense_memory_is_not_copied() -> None:
    x = torch.randn(576)
    for view in (x.view(4, 6, 3, 8).permute(0, 2, 3, 1), x.view(24, 24).T):
        assert flatten(view).data_ptr() == x.data_ptr()
    assert np.shares_memory(flatten(x.numpy().reshape(24, 24).T), x.numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bins", [256, 65536])
def test_half_precision_counts_as_its_float32_values(dtype: torch.dtype, bins: int) -> None:
    x = (torch.randn(3000, generator=torch.Generator().manual_seed(0)) * 100).to(dtype)
    x[0] = 512.0  # the top of the highest bin: 65536 widths, more than float16 can hold
    assert fed(x, bins=bins) == fed(x.float(), bins=bins)
    assert fed(x.half().numpy(), bins=bins) == fed(x.half(), bins=bins)


def test_expanded_tensors_count_every_repetition() -> None:
    statistic = fed(torch.tensor([[1.0], [2.0]]).expand(2, 5))
    assert statistic.elements == 10


def test_inference_mode_and_ordinary_mode_mix() -> None:
    x = torch.randn(200_000)
    statistic = Statistic()
    with torch.inference_mode():
        statistic.collect(x.clone())
    statistic.collect(x)
    assert statistic == fed(x, x)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_counts_the_same() -> None:
    x = torch.randn(300_000)
    assert fed(x.cuda()) == fed(x)


def test_memory_does_not_grow_with_the_data() -> None:
    statistic, size = Statistic(), Statistic().counts.nbytes
    for step in range(50):
        statistic.collect(np.full(1000, 1.7**step, np.float32))
    assert statistic.counts.nbytes == size
    assert statistic.elements == 50_000


UNUSABLE = {
    "NaN": (torch.tensor([1.0, math.nan, math.nan]), "2 NaN and 0 infinite of 3"),
    "infinity": (np.array([1.0, -np.inf]), "0 NaN and 1 infinite of 2"),
    "infinite half": (torch.tensor([1e6]).half(), "1 infinite"),
    "too large": (np.array([1e300]), "beyond the range of float32"),
    "integer tensor": (torch.ones(2, 3, dtype=torch.int64), "int64, shape (2, 3)"),
    "integer array": (np.ones((2, 3), np.int32), "int32, shape (2, 3)"),
    "boolean": (torch.ones(2, dtype=torch.bool), "bool"),
    "complex": (torch.ones(2, dtype=torch.complex64), "complex64"),
    "empty tensor": (torch.ones(0, 128), "empty, shape (0, 128)"),
    "empty array": (np.ones((4, 0)), "empty, shape (4, 0)"),
    "sparse": (torch.eye(3).to_sparse(), "not a dense tensor"),
    "no values": (torch.ones(2, device="meta"), "not a dense tensor"),
    "list": ([1.0, 2.0], "list"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_batch_is_named_and_leaves_no_trace(case: str) -> None:
    x, said = UNUSABLE[case]
    statistic = Statistic(name="encoder.0.query.input")
    statistic.collect(np.array([1.0, -3.0], np.float32))
    with pytest.raises(CalibrationError, match=all_of(said, "'encoder.0.query.input'", "batch 2")):
        statistic.collect(x)
    assert statistic == fed(np.array([1.0, -3.0], np.float32)) and statistic.batches == 1


@pytest.mark.parametrize(
    ("batches", "reason"),
    [
        ([], "never reached"),
        ([np.zeros(5)], "nothing but zeros in all 5 values"),
        ([np.full(3, 1e-39)], "too small"),
    ],
)
def test_degenerate_statistics_say_why(batches: list[np.ndarray], reason: str) -> None:
    assert reason in str(fed(*batches).is_degenerate)
    assert fed(*batches, np.ones(1)).is_degenerate is None


def test_the_smallest_amax_is_not_too_small() -> None:
    assert fed(np.full(3, 2.0**-118)).is_degenerate is None
    assert str(fed(np.full(3, 2.0**-119)).is_degenerate) == "has amax 1.50463e-36, too small for a float32 scale"


def test_a_zero_with_a_sign_is_not_negative() -> None:
    assert not fed(np.array([-0.0, 1.0])).has_negative and fed(np.array([-1e-45], np.float32)).has_negative


def test_float64_is_rounded_before_it_counts() -> None:
    assert fed(np.array([0.1])).amax == float(np.float32(0.1)) == fed(torch.tensor([0.1], dtype=torch.float64)).amax


@pytest.mark.parametrize(("top", "zeros"), [(2.0, 1), (3.0, 1), (5.0, 1), (1e30, 1)])
def test_the_least_value_is_no_zero_at_any_width(top: float, zeros: int) -> None:
    """Half of the smallest float32 is 0."""
    x = np.array([1e-45, 0.0, top], np.float32)
    for statistic in (fed(x, bins=2), fed(torch.from_numpy(x), bins=2)):
        assert statistic.zeros == zeros and statistic.counts[1] >= 1


def test_the_histogram_has_the_used_bins_and_the_zeros_in_the_first() -> None:
    statistic = fed(np.array([0.0, 0.0, 0.5, 1.0, 1.5, 2.5]), bins=4)  # bins of width 1
    assert statistic.histogram().tolist() == [4, 1, 1] and statistic.width == 1
    assert Statistic(4).histogram().tolist() == []


def test_statistics_are_told_with_and_without_a_name() -> None:
    statistic = fed(np.array([1.0, -2.5]), bins=4)
    assert repr(statistic) == "Statistic(amax=2.5, elements=2, batches=1, bins=4)" and statistic.label == "quantizer"
    named = Statistic(4, name="a")
    assert repr(named) == "Statistic('a', amax=0, elements=0, batches=0, bins=4)" and named.label == "quantizer 'a'"
    assert statistic != "a statistic" and Statistic(4) == named
    with pytest.raises(CalibrationError, match=r"^quantizer: batch 2 is empty"):
        statistic.collect(np.zeros(0))


@pytest.mark.parametrize(
    ("counts", "steps", "expected"),
    [
        ([[1, 2, 3, 4]], [0], [[1, 2, 3, 4]]),
        ([[1, 2, 3, 4]], [1], [[3, 7, 0, 0]]),
        ([[1, 2, 3, 4]], [2], [[10, 0, 0, 0]]),
        ([[1, 2, 3, 4]], [60], [[10, 0, 0, 0]]),
        ([[1, 2, 3, 4], [5, 6, 7, 8], [1, 1, 1, 1]], [1, 0, 1], [[3, 7, 0, 0], [5, 6, 7, 8], [2, 2, 0, 0]]),
    ],
)
def test_bins_are_joined_two_by_two(counts: list[list[int]], steps: list[int], expected: list[list[int]]) -> None:
    before = np.array(counts, np.int64)
    assert coarsen(before, steps).tolist() == expected and before.tolist() == counts


@pytest.mark.parametrize(
    ("amax", "exponent"),
    [(2048.0, 0), (2048.001, 1), (1024.0, -1), (1025.0, 0), (0.0, -126), (1e-45, -126), (2048 * 2.0**-126, -126),
     (2048 * 2.0**-125, -125), (3.4e38, 117)],
)  # fmt: skip
def test_the_width_is_the_smallest_that_covers_amax(amax: float, exponent: int) -> None:
    assert exponent_for(amax, 2048) == exponent


@pytest.mark.parametrize("bins", [2, 65536])
def test_the_fewest_and_the_most_bins(bins: int) -> None:
    assert Statistic(bins).counts.shape == (bins + 1,)


@pytest.mark.parametrize("bins", [0, 1, 3, 2000, -4, 131072])
def test_bins_must_be_a_power_of_two(bins: int) -> None:
    with pytest.raises(CalibrationError, match=f"bins = {bins}"):
        Statistic(bins)


def test_different_bins_do_not_merge() -> None:
    with pytest.raises(CalibrationError, match="2048 bins cannot be merged with 256"):
        Statistic(2048).merge(Statistic(256))


@relaxed
@given(st.lists(values, max_size=3), some_bins)
def test_arrays_carry_the_whole_state(batches, bins) -> None:
    statistic = fed(*(np.array(batch, np.float32) for batch in batches), bins=bins)
    again = Statistic.from_arrays(statistic.to_arrays(), name="x")
    assert again == statistic
    assert (again.batches, again.name, again.bins) == (statistic.batches, "x", bins)


BROKEN = {
    "missing amax": ({"amax": None}, "amax missing"),
    "float counts": ({"counts": np.ones(257)}, "counts is float64"),
    "negative counts": ({"counts": np.full(257, -1)}, "counts or batches are negative"),
    "odd length": ({"counts": np.ones(101, np.int64)}, "bins = 100: a power of two"),
    "amax of another histogram": ({"amax": np.array(100.0, np.float32)}, "does not lie in the highest used bin"),
    "NaN amax": ({"amax": np.array(np.nan, np.float32)}, "amax nan is not a finite"),
    "no batches": ({"batches": np.array(0)}, "2 elements in 0 batches"),
    "no values": ({"counts": np.zeros(257, np.int64), "amax": np.float32(0)}, "0 elements in 1 batches"),
    "negative batches": ({"batches": np.array(-1)}, "counts or batches are negative"),
    "one negative count": ({"counts": np.eye(1, 257, 3, np.int64)[0] - np.eye(1, 257, 4, np.int64)[0]}, "negative"),
    "negative amax": ({"amax": np.array(-0.5, np.float32)}, "amax -0.5 is not a finite, non-negative float32"),
    "infinite amax": ({"amax": np.array(np.inf, np.float32)}, "amax inf is not a finite"),
    "amax in float64": ({"amax": np.array(0.1)}, "amax 0.1 is not a finite"),
    "rows of counts": ({"counts": np.ones((3, 257), np.int64)}, "counts is int64[3, 257], not int64[bins + 1]"),
    "small integers": ({"counts": np.ones(257, np.int32)}, "counts is int32[257]"),
    "two counts": ({"counts": np.ones(2, np.int64)}, "counts is int64[2]"),
    "amax below": ({"amax": np.array(1.5, np.float32)}, "amax 1.5 does not lie in the highest used bin, 256"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_arrays_that_break_an_invariant_are_refused(case: str) -> None:
    changes, said = BROKEN[case]
    arrays = {**fed(np.array([1.0, 2.0]), bins=256).to_arrays(), **changes}
    with pytest.raises(CalibrationError, match=re.escape(said)):
        Statistic.from_arrays({key: value for key, value in arrays.items() if value is not None})
