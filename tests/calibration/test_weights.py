"""amax of weights: the exact maxima, whatever holds them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calibration import CalibrationError, weight_amax


@pytest.mark.parametrize(("shape", "axis"), [((5, 7), 0), ((5, 7), 1), ((5, 7), -1), ((4, 3, 2, 2), 1), ((6,), 0)])
def test_max_per_channel(shape: tuple[int, ...], axis: int) -> None:
    w = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    others = tuple(i for i in range(len(shape)) if i != axis % len(shape))
    expected = np.abs(w).max(axis=others)
    np.testing.assert_array_equal(weight_amax(w, axis), expected)
    np.testing.assert_array_equal(weight_amax(torch.from_numpy(w).requires_grad_(), axis), expected)


def test_per_tensor_is_one_element() -> None:
    w = np.array([[1.0, -4.0], [2.0, 0.0]], np.float32)
    np.testing.assert_array_equal(weight_amax(w, None), np.array([4.0], np.float32))


def test_an_all_zero_channel_has_amax_zero() -> None:
    amax = weight_amax(np.array([[0.0, 0.0], [1.0, -2.0]], np.float32), 0)
    np.testing.assert_array_equal(amax, [0.0, 2.0])


def test_half_precision_weights() -> None:
    w = torch.randn(4, 9).half()
    np.testing.assert_array_equal(weight_amax(w, 0), weight_amax(w.float(), 0))
    np.testing.assert_array_equal(weight_amax(w.bfloat16(), 0), weight_amax(w.bfloat16().float().numpy(), 0))


def test_the_largest_may_be_negative_or_positive() -> None:
    assert weight_amax(np.array([[3.0, -1.0]], np.float32), None).tolist() == [3]
    assert weight_amax(np.array([[3.0, -1.0]], np.float32), -2).tolist() == [3]


def test_a_weight_without_a_name_is_refused_all_the_same() -> None:
    with pytest.raises(CalibrationError, match=r"^weight has no axis -3, shape"):
        weight_amax(np.ones((2, 3)), -3)


NAN = np.array([[1.0, 2.0], [np.nan, 1.0]], np.float32)


@pytest.mark.parametrize(
    ("w", "options", "said"),
    [
        (NAN, {"axis": 0}, "weight 'q' holds NaN, .* first in channel 1; check the checkpoint"),
        (-np.array([[np.inf]], np.float32), {"axis": None}, "0 NaN and 1 infinite of 1 values; check the checkpoint"),
        (np.ones((2, 2), np.int8), {"axis": 0}, "weight 'q' is int8, .* takes float32"),
        (torch.ones(2, dtype=torch.int32), {"axis": 0}, "is int32, .* takes float32"),
        (np.ones((0, 3)), {"axis": 0}, r"empty, shape \(0, 3\)"),
        (np.ones((2, 3)), {"axis": 2}, r"has no axis 2, shape \(2, 3\)"),
    ],
)
def test_unusable_weights_are_refused(w: object, options: dict, said: str) -> None:
    with pytest.raises(CalibrationError, match=said):
        weight_amax(w, **options, name="q")  # type: ignore[arg-type]
