"""The arithmetic against its definition, ONNX Runtime's operators and TensorQuantizer, bit by bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import CalibrationError
from calibration.arithmetic import SMALLEST_AMAX, Grid, code_range, scale_of, usable
from helpers.onnx_text import parse, run
from pipeline.quantization import QuantDescriptor, TensorQuantizer


def sample(seed: int, *, unsigned: bool = False) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(5, 6, 7)).astype(np.float32)
    return np.abs(x) if unsigned else x


def channel_amax(x: np.ndarray, axis: int) -> np.ndarray:
    return np.abs(x).max(tuple(i for i in range(x.ndim) if i != axis % x.ndim))


@pytest.mark.parametrize(
    ("bits", "unsigned", "narrow", "expected"),
    [
        (8, False, False, (-128, 127)),
        (8, False, True, (-127, 127)),
        (8, True, False, (0, 255)),
        (2, False, False, (-2, 1)),
        (1, True, False, (0, 1)),
        (16, False, False, (-32768, 32767)),
    ],
)
def test_range_of_the_integers(bits: int, unsigned: bool, narrow: bool, expected: tuple[int, int]) -> None:
    assert code_range(bits, unsigned, narrow) == expected


def test_a_usual_quantizer_has_signed_bytes() -> None:
    assert code_range() == (-128, 127) and scale_of(127.0) == 1 and Grid(np.ones((), np.float32)).low == -128


def test_grids_are_not_compared_by_their_scales() -> None:
    """Arrays have no truth value: two grids are equal only where they are one."""
    assert Grid.covering([1.0, 2.0], 0) != Grid.covering([1.0, 2.0], 0)


def test_one_signed_bit_has_no_range() -> None:
    with pytest.raises(CalibrationError, match="1 signed bits have no value above 0"):
        code_range(1)


@pytest.mark.parametrize(
    ("amax", "expected"),
    [
        (1.27, np.float32(1.27) / np.float32(127)),
        ([254.0], 2.0),  # one value is per tensor
        ([127.0, 0.0, 254.0], [1.0, 1.0, 2.0]),  # a channel of zeros
        (SMALLEST_AMAX, SMALLEST_AMAX / 127),
        (1e-45, 1.0),  # the quotient underflows
    ],
)
def test_scale_of_amax(amax: float | list[float], expected: float | list[float]) -> None:
    scale = scale_of(amax)
    assert scale.dtype == np.float32 and scale.ndim == np.ndim(expected) and usable(scale).all()
    np.testing.assert_array_equal(scale, np.float32(expected))


def test_above_the_smallest_amax_a_scale_has_all_its_digits() -> None:
    smallest = np.finfo(np.float32).smallest_normal
    assert scale_of(SMALLEST_AMAX, 255) >= smallest > scale_of(SMALLEST_AMAX / 2, 255)


@pytest.mark.parametrize("amax", [-1.0, math.inf, math.nan, [1.0, -0.5]])
def test_an_amax_that_is_none_is_refused(amax: float | list[float]) -> None:
    with pytest.raises(CalibrationError, match="negative, infinite or NaN"):
        scale_of(amax)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize(("unsigned", "narrow"), [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize("bits", [2, 4, 8, 12])
def test_tensor_quantizer_computes_the_same(bits: int, unsigned: bool, narrow: bool, axis: int | None) -> None:
    x = sample(bits, unsigned=unsigned)
    amax = np.float32(0.7) * (np.abs(x).max() if axis is None else channel_amax(x, axis))  # some are clipped
    quantizer = TensorQuantizer(QuantDescriptor(num_bits=bits, axis=axis, unsigned=unsigned, narrow_range=narrow))
    quantizer.set_amax(torch.as_tensor(amax))
    grid = Grid.covering(amax, axis, *code_range(bits, unsigned, narrow))
    ties = (np.array([0.5, 1.5, 2.5], np.float32) * grid.scale.reshape(-1)[0]).reshape(3, 1, 1)
    x[:3] = np.where(np.arange(7) < 3, ties, x[:3]) if axis is None else x[:3]
    np.testing.assert_array_equal(quantizer(torch.from_numpy(x)).numpy(), grid.round(x))


@pytest.mark.parametrize("axis", [None, 0, 2])
def test_onnx_runtime_computes_the_same(axis: int | None) -> None:
    x = sample(3) * 3
    amax = np.float32(2.0) if axis is None else channel_amax(x, axis) * np.float32(0.8)
    grid = Grid.covering(amax, axis)
    x[0, 0, :4] = np.array([-2.5, -0.5, 0.5, 1.5], np.float32) * grid.scale.reshape(-1)[0]  # ties
    along = "" if axis is None else f"<axis = {axis}>"
    model = parse(
        f"""agraph (float[5, 6, 7] x) => (int8[5, 6, 7] q, float[5, 6, 7] y) {{
            q = QuantizeLinear{along}(x, s, z)
            y = DequantizeLinear{along}(q, s, z)
        }}""",
        s=grid.scale,
        z=np.zeros(grid.scale.shape, np.int8),
    )
    codes, y = run(model, x=x)
    assert grid.quantize(x).dtype == np.int8
    np.testing.assert_array_equal(grid.quantize(x), codes)
    np.testing.assert_array_equal(grid.dequantize(codes), y)
    np.testing.assert_array_equal(grid.round(x), y)


@settings(max_examples=50, deadline=None)
@given(st.floats(2.0**-100, 2.0**100, width=32), st.integers(0, 99))
def test_a_value_within_amax_moves_by_half_a_step_at_most(amax: float, seed: int) -> None:
    grid = Grid.covering(amax)
    x = np.random.default_rng(seed).uniform(-amax, amax, 200).astype(np.float32)
    found = grid.round(x)
    # x / scale is rounded to float32 before it is rounded to an integer
    assert (np.abs(found.astype(np.float64) - x) <= float(grid.scale) * (0.5 + 2.0**-16)).all()
    np.testing.assert_array_equal(grid.round(found), found)
    np.testing.assert_array_equal(grid.dequantize(grid.quantize(x)), found)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-128, 127, np.int8), (-127, 127, np.int8), (-8, 7, np.int8), (0, 127, np.int8), (0, 255, np.int32),
     (0, 128, np.int32), (-129, 127, np.int32), (-2048, 2047, np.int32)],
)  # fmt: skip
def test_integers_are_bytes_where_all_of_them_fit(low: int, high: int, expected: type) -> None:
    codes = Grid(np.float32(1.0).reshape(()), None, low, high).quantize(np.array([-3000.0, 0.0, 3000.0]))
    assert codes.dtype == expected and codes.tolist() == [low, 0, high]


def test_other_precisions_are_computed_in_float32() -> None:
    x, grid = sample(1).astype(np.float16), Grid.covering(1.0)
    np.testing.assert_array_equal(grid.round(x), grid.round(x.astype(np.float32)))
    nearly = np.array([1.5 - 1e-12])  # in float64 it is nearer to 1, in float32 a tie
    assert Grid.covering(127.0).quantize(nearly) == 2 and Grid.covering(127.0).round(nearly).dtype == np.float32


@pytest.mark.parametrize(
    ("scale", "axis", "codes", "said"),
    [
        (0.0, None, (), "positive and finite, got 0.0"),
        (math.nan, None, (), "positive and finite, got nan"),
        ([1.0, math.inf], 0, (), "positive and finite, got inf"),
        ([1.0, -2.0, math.nan], 0, (), "positive and finite, got -2.0"),
        ([1.0, -1.0], 0, (), "positive and finite, got -1.0"),
        ([1.0], None, (), r"axis None cannot be float32 of shape \(1,\)"),
        (1.0, 0, (), r"axis 0 cannot be float32 of shape \(\)"),
        ([[1.0]], 0, (), r"shape \(1, 1\)"),
        (1.0, None, (1, 5), "from 1 to 5"),
        (1.0, None, (-5, 0), "from -5 to 0"),
    ],
)
def test_a_grid_that_breaks_an_invariant_is_refused(
    scale: float | list[float], axis: int | None, codes: tuple[int, ...], said: str
) -> None:
    with pytest.raises(CalibrationError, match=said):
        Grid(np.array(scale, np.float32), axis, *codes)


def test_scales_are_float32() -> None:
    with pytest.raises(CalibrationError, match="float64"):
        Grid(np.array(1.0))


@pytest.mark.parametrize("axis", [0, 3, -4])
def test_channels_that_do_not_fit_are_refused(axis: int) -> None:
    assert Grid(np.ones(5, np.float32), -3).quantize(sample(0)).shape == (5, 6, 7)
    with pytest.raises(CalibrationError, match=rf"2 scales along axis {axis} do not fit the shape \(5, 6, 7\)"):
        Grid(np.ones(2, np.float32), axis).quantize(sample(0))
