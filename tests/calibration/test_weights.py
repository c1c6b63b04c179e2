"""amax of weights: exact maxima, and the mse choice against a dense search."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import CalibrationError, weight_amax


def error(rows: np.ndarray, amax: np.ndarray, levels: int) -> np.ndarray:
    """Returns Σ (w − Q(w))² per row."""
    delta = amax[:, None].astype(np.float64) / levels
    return np.sum((rows - np.clip(np.rint(rows / delta), -levels, levels) * delta) ** 2, axis=1)


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


@pytest.mark.parametrize("num_bits", [3, 4, 8])
@pytest.mark.parametrize("tail", [2.5, 30.0])
def test_mse_is_close_to_a_dense_search(num_bits: int, tail: float) -> None:
    rows = np.random.default_rng(1).standard_t(tail, size=(40, 300)).astype(np.float32)
    levels = 2 ** (num_bits - 1) - 1
    top = weight_amax(rows, 0)
    chosen = error(rows, weight_amax(rows, 0, "mse", num_bits), levels)
    dense = np.min([error(rows, top * share, levels) for share in np.arange(0.3, 1.0005, 0.001)], axis=0)
    assert np.all(chosen <= error(rows, top, levels) * (1 + 1e-5))
    assert np.mean(chosen / dense) < 1.02


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(1, 400), st.sampled_from([1e-20, 1.0, 1e15]), st.integers(0, 9))
def test_mse_never_exceeds_max_and_scales(channels: int, length: int, scale: float, seed: int) -> None:
    rows = (np.random.default_rng(seed).laplace(size=(channels, length)) * scale).astype(np.float32)
    top, chosen = weight_amax(rows, 0), weight_amax(rows, 0, "mse")
    assert np.all((chosen > 0) & (chosen <= top))
    np.testing.assert_array_equal(weight_amax(rows * np.float32(4), 0, "mse"), chosen * 4)


def test_blocks_do_not_change_the_result() -> None:
    rows = np.random.default_rng(2).normal(size=(700, 333)).astype(np.float32)
    parts = np.concatenate([weight_amax(part, 0, "mse") for part in np.split(rows, 7)])
    np.testing.assert_array_equal(weight_amax(rows, 0, "mse"), parts)


@pytest.mark.parametrize("method", ["max", "mse"])
def test_an_all_zero_channel_has_amax_zero(method: str) -> None:
    amax = weight_amax(np.array([[0.0, 0.0], [1.0, -2.0]], np.float32), 0, method)
    np.testing.assert_array_equal(amax, [0.0, 2.0])


def test_half_precision_weights() -> None:
    w = torch.randn(4, 9).half()
    np.testing.assert_array_equal(weight_amax(w, 0, "mse"), weight_amax(w.float(), 0, "mse"))
    np.testing.assert_array_equal(weight_amax(w.bfloat16(), 0), weight_amax(w.bfloat16().float().numpy(), 0))


NAN = np.array([[1.0, 2.0], [np.nan, 1.0]], np.float32)


@pytest.mark.parametrize(
    ("w", "options", "said"),
    [
        (NAN, {"axis": 0}, "weight 'q': NaN or infinity in 1 of 2 channels, first 1"),
        (-np.array([[np.inf]], np.float32), {"axis": None}, "NaN or infinity"),
        (np.ones((2, 2), np.int8), {"axis": 0}, "int8, not a float"),
        (torch.ones(2, dtype=torch.int32), {"axis": 0}, "int32, not a float"),
        (np.ones((0, 3)), {"axis": 0}, r"empty, shape \(0, 3\)"),
        (np.ones((2, 3)), {"axis": 2}, r"axis 2 does not exist in shape \(2, 3\)"),
        (np.ones((2, 3)), {"axis": 0, "method": "entropy"}, "unknown method 'entropy'; available: max, mse"),
        (np.ones((2, 3)), {"axis": 0, "method": "mse", "num_bits": 1}, "num_bits = 1"),
    ],
)
def test_unusable_weights_are_refused(w: object, options: dict, said: str) -> None:
    with pytest.raises(CalibrationError, match=said):
        weight_amax(w, **options, name="q")  # type: ignore[arg-type]
