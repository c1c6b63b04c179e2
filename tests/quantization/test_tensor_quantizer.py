"""TensorQuantizer against pytorch-quantization's own, forward and backward, and against numpy where that one errs."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_quantization.nn import TensorQuantizer as LibraryQuantizer

from pipeline.model.onnx_export import export_onnx
from pipeline.quantization import QuantDescriptor, TensorQuantizer
from pipeline.quantization.fake_quantize import PER_TENSOR, fake_quantize

Axes = int | tuple[int, ...] | list[int] | None
NONE: list[tuple[Axes, Axes]] = [(None, None), ((), ())]
# (axis of ours, the same for the library, which takes negative ones for none)
AXES: list[tuple[Axes, Axes]] = [
    *NONE, (0, 0), (1, 1), (2, 2), (-1, 2), (-3, 0), ((1,), 1), ([0], 0), ((0, 1), (0, 1)), ((1, 2), (1, 2)),
    ((2, 0), (0, 2)), ((0, -1), (0, 2)), ([-2, -1], (1, 2)), ((0, 1, 2), (0, 1, 2)),
]  # fmt: skip
RANGES = [(False, False), (False, True), (True, False)]  # (unsigned, narrow_range)


def sample(shape: tuple[int, ...] = (3, 4, 5), *, unsigned: bool = False, seed: int = 0) -> torch.Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x.abs() if unsigned else x


def pair(**settings: Any) -> tuple[TensorQuantizer, Any]:
    """Returns our quantizer and the library's, of one descriptor but for a `library_axis`."""
    library_axis = settings.pop("library_axis", settings.get("axis"))
    theirs = QuantDescriptor(**{**settings, "axis": library_axis})
    return TensorQuantizer(QuantDescriptor(**settings)), LibraryQuantizer(theirs)


def both(quantizer: Any, x: torch.Tensor, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns what a quantizer gives, and the gradient that it passes on."""
    leaf = x.detach().clone().requires_grad_()
    y = quantizer(leaf)
    y.backward(torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(y.dtype))
    assert leaf.grad is not None and y.dtype == x.dtype and leaf.grad.dtype == x.dtype
    return y.detach(), leaf.grad


def by_numpy(x: torch.Tensor, amax: np.ndarray, bits: int, *, unsigned: bool, narrow: bool) -> np.ndarray:
    """Returns the quantized values, from their definition, in float32."""
    bound = np.float32(2 ** (bits - (not unsigned)) - 1)
    low = 0 if unsigned else -bound if narrow else -bound - 1
    scale = amax.astype(np.float32) / bound
    return np.clip(np.rint(x.detach().numpy().astype(np.float32) / scale), low, bound) * scale


def same(ours: Any, theirs: Any, x: torch.Tensor, amax: np.ndarray) -> None:
    """Checks values and gradients; a value on a rounding boundary may fall apart, as the library divides otherwise."""
    (a, grad_a), (b, grad_b) = both(ours, x), both(theirs, x)
    assert torch.equal(grad_a, grad_b)
    step = torch.from_numpy(np.asarray(amax, np.float32)) / ours.bound
    apart = (a - b).abs() > step / 2
    assert (((x / step) % 1)[apart] - 0.5).abs().lt(1e-3).all()
    torch.testing.assert_close(a[~apart], b[~apart], rtol=1e-5, atol=1e-6)
    expected = by_numpy(x, amax, ours.num_bits, unsigned=ours.unsigned, narrow=ours.narrow_range)
    np.testing.assert_array_equal(a.numpy(), expected)


def largest(x: torch.Tensor, axis: Axes) -> torch.Tensor:
    """Returns the largest |x| along axes ≥ 0, in x's dimensions."""
    kept = () if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    return torch.from_numpy(np.abs(x.numpy()).max(tuple(i for i in range(x.dim()) if i not in kept), keepdims=True))


@pytest.mark.parametrize(("unsigned", "narrow"), RANGES)
@pytest.mark.parametrize(("axis", "library_axis"), AXES)
def test_a_dynamic_amax_is_the_largest_value_along_the_axes(
    axis: Axes, library_axis: Axes, unsigned: bool, narrow: bool
) -> None:
    x = sample(unsigned=unsigned)
    settings = {"axis": axis, "library_axis": library_axis, "unsigned": unsigned, "narrow_range": narrow}
    for bits in (8, 4):
        same(*pair(num_bits=bits, **settings), x, largest(x, library_axis).numpy())


@pytest.mark.parametrize(("unsigned", "narrow"), RANGES)
@pytest.mark.parametrize("bits", [2, 3, 4, 8, 12, 16])
@pytest.mark.parametrize(("axis", "library_axis"), AXES)
def test_a_stored_amax_clips_and_stops_the_gradient_beyond_it(
    axis: Axes, library_axis: Axes, bits: int, unsigned: bool, narrow: bool
) -> None:
    """Values between amax and (high + 1) · scale, which a wide range keeps, get no gradient."""
    x = sample(unsigned=unsigned)
    amax = largest(x, library_axis) * 0.6
    ours, theirs = pair(num_bits=bits, axis=axis, unsigned=unsigned, narrow_range=narrow)
    ours.set_amax(amax)
    theirs.register_buffer("_amax", amax)
    same(ours, theirs, x, amax.numpy())


def test_the_gradient_is_1_from_minus_amax_to_amax_both_included() -> None:
    """amax / 127 · 127 is below amax for a third of all float32: the largest weight is in the range all the same."""
    for amax in np.random.default_rng(0).uniform(0.1, 9, 200).astype(np.float32):
        beyond = np.nextafter(amax, np.float32(99))
        x = torch.tensor([-beyond, -amax, -0.0, amax, beyond, -amax * 128 / 127])
        ours, theirs = pair(amax=float(amax))
        assert both(ours, x)[1].ne(0).tolist() == [False, True, True, True, False, False]
        assert torch.equal(both(ours, x)[1], both(theirs, x)[1])


def test_a_gradient_that_is_stopped_is_0_whatever_it_was() -> None:
    x = torch.tensor([3.0, 3.0, 0.5], requires_grad=True)
    TensorQuantizer(QuantDescriptor(amax=1.0))(x).backward(torch.tensor([math.nan, math.inf, 2.0]))
    assert x.grad is not None and x.grad.tolist() == [0, 0, 2]


# --- shapes and layouts ---

LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "transposed": lambda x: x.transpose(0, 2),
    "sliced": lambda x: x[:, ::2, 1:],
    "flipped": lambda x: x.flip(1).permute(1, 2, 0),
    "expanded": lambda x: x[:, :1].expand(3, 7, 5),
    "channels last": lambda x: x[None].to(memory_format=torch.channels_last)[0],
}


@pytest.mark.parametrize("axis", [None, 1, (0, 2)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_in_memory_does_not_matter(layout: str, axis: Axes) -> None:
    x = LAYOUTS[layout](sample())
    same(*pair(axis=axis), x, largest(x, axis).numpy())
    quantizer = TensorQuantizer(QuantDescriptor(axis=axis))
    assert torch.equal(quantizer(x), quantizer(x.contiguous()))


@pytest.mark.parametrize("amax", [None, 0.5])
def test_a_scalar_tensor(amax: float | None) -> None:
    x = torch.tensor(-0.7)
    same(*pair(amax=amax), x, np.float32(amax or 0.7))
    assert TensorQuantizer(QuantDescriptor(amax=amax))(x).shape == ()


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("amax", [None, 0.5])
@pytest.mark.parametrize(("shape", "axis"), [((0,), None), ((2, 0, 3), None), ((2, 0, 3), (0, 2)), ((0, 3), 0)])
def test_an_empty_tensor_passes(shape: tuple[int, ...], axis: Axes, amax: float | None, unsigned: bool) -> None:
    """The library reduces it, which torch refuses, unless amax is stored and signed."""
    quantizer = TensorQuantizer(QuantDescriptor(axis=axis, amax=amax, unsigned=unsigned), if_calib=True)
    x = torch.zeros(shape, requires_grad=True)
    y = quantizer(x)
    y.sum().backward()
    assert y.shape == shape and x.grad is not None and x.grad.shape == shape
    assert quantizer._calibrator.compute_amax() is None


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1, 1)])
@pytest.mark.parametrize("axis", [None, 1, (0, 1)])
def test_an_amax_of_one_value_is_for_all_whatever_its_shape(shape: tuple[int, ...], axis: Axes) -> None:
    ours, theirs = pair(axis=axis, library_axis=None)
    ours.set_amax(torch.full(shape, 1.3))
    theirs.register_buffer("_amax", torch.tensor(1.3))
    same(ours, theirs, sample((4, 4)), np.float32(1.3))


@pytest.mark.parametrize(
    ("axis", "shape"), [(0, (4, 1, 1)), (2, (4,)), (None, (4,)), (None, (4, 1, 4)), (0, (1, 4, 1)), ((1, 2), (4, 4))]
)
def test_an_amax_of_many_values_broadcasts_as_in_the_library(axis: Axes, shape: tuple[int, ...]) -> None:
    """Its shape counts, not the axis: so the library documents it."""
    amax = sample(shape).abs().numpy() + 0.1
    same(*pair(axis=axis, amax=amax), sample((4, 4, 4)), amax)


@pytest.mark.parametrize(
    ("axis", "placed"), [(0, (4, 1, 1)), (-2, (1, 4, 1)), ((2, 0), (4, 1, 4)), ([0, 1], (4, 4, 1))]
)
def test_an_amax_of_one_dimension_per_axis_lies_along_the_axes(axis: Axes, placed: tuple[int, ...]) -> None:
    """The library would broadcast it to the last ones; what our calibration gives are lists of one value a channel."""
    amax = sample(placed).abs() + 0.1
    ours, theirs = pair(axis=axis)
    ours.set_amax(amax.squeeze())
    theirs.register_buffer("_amax", amax)
    same(ours, theirs, sample((4, 4, 4)), amax.numpy())


@pytest.mark.parametrize("shape", [(3,), (5, 1), (2, 4, 5)])
def test_an_amax_that_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    """The library would give a larger tensor where both broadcast."""
    quantizer = TensorQuantizer(QuantDescriptor(axis=0, amax=np.ones(shape, np.float32)))
    with pytest.raises(ValueError, match=r"quantizer: amax of shape \[[0-9, ]+\] does not broadcast to x, \[4, 5\]"):
        quantizer(sample((4, 5)))


@pytest.mark.parametrize(("axis", "wrong"), [(3, 3), (-4, -4), ((0, 3), 3)])
def test_an_axis_that_the_tensor_does_not_have_is_refused(axis: Axes, wrong: int) -> None:
    """The library takes it for none, and quantizes per tensor what was asked per channel."""
    for quantizer in (TensorQuantizer(QuantDescriptor(axis=axis)), calibrating(axis)):
        with pytest.raises(ValueError, match=f"axis {wrong} does not exist in a tensor of 3 dimensions"):
            quantizer(sample())


# --- types ---


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_computed_in_float32_or_better_and_rounded_once(dtype: torch.dtype, axis: Axes) -> None:
    x = sample((64, 50)).to(dtype)
    y, grad = both(TensorQuantizer(QuantDescriptor(axis=axis)), x)
    exact = x.double().numpy()
    scale = np.abs(exact).max(1 if axis == 0 else None, keepdims=True)
    expected = torch.from_numpy(np.rint(exact / (scale / 127)) * (scale / 127))
    off = (y.double() - expected).abs() > torch.finfo(dtype).eps * expected.abs() + 1e-30
    offset = np.abs(exact / (scale / 127) % 1 - 0.5)
    assert (offset[off.numpy()] < 1e-4).all(), "the type's own rounding and no other"
    assert bool((grad != 0).all())
    if dtype != torch.bfloat16:  # which the library computes in bfloat16 itself, steps and all
        theirs = both(LibraryQuantizer(QuantDescriptor(axis=axis)), x)
        far = (y - theirs[0]).double().abs() > 2e-3 * expected.abs() + 1e-6
        assert (offset[far.numpy()] < 0.04).all(), "up to its rounding of the scale, and values on a boundary"
        assert torch.equal(grad, theirs[1])


def test_a_small_amax_in_half_precision_is_not_lost() -> None:
    """The library's scale, 127 / amax, is infinite in half precision below 1.94e-3, and everything becomes 0."""
    x = (sample((200,)) * 1e-3).clamp(-1e-3, 1e-3).half()
    ours, theirs = pair(amax=1e-3)
    assert not theirs(x).any()
    error = (ours(x).float() - x.float()).abs()
    assert error.max() < 1e-3 / 127 * 0.51 + 6e-8


@pytest.mark.parametrize("fake", [True, False])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool, torch.complex64])
def test_what_is_no_floating_point_tensor_is_refused(dtype: torch.dtype, fake: bool) -> None:
    """The library gives float32 of integers divided by a scale cut to an integer: 2 for 5, here."""
    x = torch.tensor([5, -3]).to(dtype)
    if dtype == torch.int64:
        assert LibraryQuantizer(QuantDescriptor(amax=90.0))(x).tolist() == [7.0, -4.0]
    with pytest.raises(TypeError, match=f"quantizer: x is {dtype}, not a floating-point tensor"):
        TensorQuantizer(QuantDescriptor(amax=90.0, fake_quant=fake))(x)


# --- odd amax, odd values ---


@pytest.mark.parametrize("values", [[0.0, -0.0, 1e-9, 0.4, -3.0, 1e9], [math.inf, -math.inf, math.nan]])
@pytest.mark.parametrize("amax", [0.0, math.nan, math.inf, [0.0, 1.0], [1.0, math.nan]])
@pytest.mark.parametrize("unsigned", [False, True])
def test_zero_infinite_and_nan_are_what_they_are_in_the_library(
    amax: float | list[float], values: list[float], unsigned: bool
) -> None:
    """amax 0 makes every finite value 0, NaN and infinity make it NaN: what is not calibrated never looks as if."""
    x = torch.tensor(values)
    x = (x.abs() if unsigned else x).repeat(2, 1)
    ours, theirs = pair(axis=0, unsigned=unsigned)
    stored = torch.tensor(amax) if isinstance(amax, float) else torch.tensor(amax)[:, None]
    ours.set_amax(stored)
    theirs.register_buffer("_amax", stored)
    (a, grad_a), (b, grad_b) = both(ours, x), both(theirs, x)
    torch.testing.assert_close(a, b, rtol=1e-6, atol=0, equal_nan=True)
    assert torch.equal(grad_a, grad_b)


def test_a_tensor_of_zeros_has_amax_0_and_stays_zeros() -> None:
    y, grad = both(TensorQuantizer(QuantDescriptor()), torch.zeros(3))
    assert y.tolist() == [0, 0, 0] and bool((grad != 0).all())


@pytest.mark.parametrize("amax", [1e-8, 1e-30, 1e-37])
def test_a_tiny_amax_is_as_good_as_any(amax: float) -> None:
    """QuantizeLinear knows no smallest scale; the library makes all 0 up to 2⁻²⁴, the least of half precision."""
    x = sample((50,)).clamp(-1, 1)
    ours, theirs = pair(amax=amax)
    assert not theirs(x * amax).any()
    torch.testing.assert_close(
        ours(x * amax) / amax, TensorQuantizer(QuantDescriptor(amax=1.0))(x), rtol=1e-4, atol=1e-3
    )


def test_an_amax_whose_scale_is_0_in_float32_counts_as_0() -> None:
    assert TensorQuantizer(QuantDescriptor(amax=1e-45))(torch.tensor([1e-45, 0.3, -2.0])).tolist() == [0, 0, 0]


@pytest.mark.parametrize("make", [TensorQuantizer, LibraryQuantizer])
@pytest.mark.parametrize("fake", [True, False])
@pytest.mark.parametrize(("amax", "axis"), [(-1.0, None), ([[1.0], [-2.0]], 0), ([[0.0], [-1e-9]], 0)])
def test_a_negative_amax_is_refused(make: Any, fake: bool, amax: Any, axis: Axes) -> None:
    quantizer = make(QuantDescriptor(amax=amax, axis=axis, fake_quant=fake))
    for x in (torch.ones(2, 3), torch.ones(2, 3, requires_grad=True)):
        with pytest.raises(ValueError, match=r"(?i)negative values in amax"):
            quantizer(x)


@pytest.mark.parametrize("make", [TensorQuantizer, LibraryQuantizer])
@pytest.mark.parametrize("fake", [True, False])
@pytest.mark.parametrize("amax", [None, 1.0])
def test_a_negative_value_is_refused_when_unsigned(make: Any, fake: bool, amax: float | None) -> None:
    quantizer = make(QuantDescriptor(unsigned=True, amax=amax, fake_quant=fake))
    quantizer(torch.tensor([0.0, -0.0, 1.0]))
    for x in (torch.tensor([0.5, -1e-20]), torch.tensor([0.5, -1.0], requires_grad=True)):
        with pytest.raises(TypeError, match=r"(?i)negative values|has negative values, the lowest"):
            quantizer(x)


@pytest.mark.parametrize("bits", [0, 1])
def test_fewer_than_two_levels_are_refused(bits: int) -> None:
    """The library gives amax for every value with 0 bits, and NaN with 1."""
    ours, theirs = pair(num_bits=bits, amax=1.0)
    assert torch.equal(theirs(torch.tensor([0.3])), torch.tensor([1.0])) or theirs(torch.tensor([0.3])).isnan().all()
    with pytest.raises(ValueError, match=f"quantizer: {bits} signed bits have no value above 0"):
        ours(torch.tensor([0.3]))


def test_one_unsigned_bit_is_0_or_amax() -> None:
    for quantizer in pair(num_bits=1, unsigned=True, amax=0.8):
        assert quantizer(torch.tensor([0.0, 0.3, 0.5, 2.0])).tolist() == pytest.approx([0, 0, 0.8, 0.8])


# --- the library's switches ---


def calibrating(axis: Axes, make: Any = TensorQuantizer) -> Any:
    return make(QuantDescriptor(axis=axis), if_quant=False, if_calib=True)


@pytest.mark.parametrize(("axis", "library_axis"), AXES)
def test_max_calibration_takes_the_same_axes(axis: Axes, library_axis: Axes) -> None:
    ours, theirs = calibrating(axis), calibrating(library_axis, LibraryQuantizer)
    for seed in (0, 1):
        x = sample(seed=seed)
        assert ours(x) is x and theirs(x) is x
    for quantizer in (ours, theirs):
        quantizer.load_calib_amax()
        quantizer.disable_calib()
        quantizer.enable_quant()
    assert torch.equal(ours.amax, theirs.amax)
    same(ours, theirs, sample(seed=2), ours.amax.numpy())


@pytest.mark.parametrize("amax", [None, 0.7])
@pytest.mark.parametrize("unsigned", [False, True])
def test_a_learned_amax_is_learned_as_in_the_library(amax: float | None, unsigned: bool) -> None:
    x = sample(unsigned=unsigned)
    ours, theirs = pair(learn_amax=True, amax=amax, unsigned=unsigned)
    same(ours, theirs, x, np.float32(amax or 1.0)) if not (x.abs() > (amax or 1.0)).any() else None
    (a, grad_a), (b, grad_b) = both(ours, x), both(theirs, x)
    torch.testing.assert_close(a, b)
    assert torch.equal(grad_a, grad_b)
    for name in ("clip_value_min", "clip_value_max"):
        assert torch.equal(getattr(ours.clip, name).grad, getattr(theirs.clip, name).grad)
        assert getattr(ours.clip, name).grad.abs() > 0 or (unsigned and name == "clip_value_min")
    for quantizer in (ours, theirs):
        quantizer.disable_quant()
    assert torch.equal(ours(x), theirs(x)) and float(ours(x).detach().max()) == pytest.approx(amax or 1.0)


def test_a_learned_amax_begins_at_the_stored_one() -> None:
    for quantizer in pair(learn_amax=True, amax=0.7):
        quantizer.amax = 0.4
        quantizer.init_learn_amax()
        assert float(quantizer.clip.clip_value_max) == pytest.approx(0.4)
    for quantizer in pair(amax=0.7):
        with pytest.raises(ValueError, match=r"learn_amax is False\. Cannot enable clip"):
            quantizer.enable_clip()
        with pytest.raises(RuntimeError, match="init_learn_amax with learn_amax=False"):
            quantizer.init_learn_amax()


@pytest.mark.parametrize(("axis", "library_axis"), AXES)
@pytest.mark.parametrize("unsigned", [False, True])
def test_without_fake_it_gives_whole_numbers_and_the_scale(axis: Axes, library_axis: Axes, unsigned: bool) -> None:
    x = sample(unsigned=unsigned)
    ours, theirs = pair(axis=axis, library_axis=library_axis, fake_quant=False, unsigned=unsigned)
    assert torch.equal(ours(x), theirs(x)) and torch.equal(ours.scale, theirs.scale)
    assert torch.equal(ours(x), ours(x).round()) and float(ours(x).abs().max()) == 127 + 128 * unsigned


@pytest.mark.parametrize("axis", [None, 1, (0, 1)])
@pytest.mark.parametrize("stored", [False, True])
def test_scale_amax_scales_it(axis: Axes, stored: bool) -> None:
    x = sample()
    ours, theirs = pair(axis=axis, scale_amax=0.5, amax=largest(x, axis).numpy() if stored else None)
    same(ours, theirs, x, largest(x, axis).numpy() * 0.5)


def test_the_switches_are_the_librarys_own() -> None:
    x = sample((20,))
    for switches in ({"disabled": True}, {"if_quant": False}):
        assert TensorQuantizer(QuantDescriptor(amax=0.1), **switches)(x) is x
    for quantizer in (TensorQuantizer(), TensorQuantizer(QuantDescriptor(), True, False, False, False)):
        quantizer.enable()
        quantizer.enable_quant()
        same(quantizer, LibraryQuantizer(), x, largest(x, None).numpy())
        quantizer.disable()
        assert quantizer(x) is x and repr(quantizer) == "TensorQuantizer(disabled)"
    ours, theirs = pair(num_bits=4, calib_method="none", narrow_range=True, amax=1.0)
    assert repr(ours) == "TensorQuantizer(4bit narrow fake per-tensor amax=1.0000 scale=1.0 quant)"
    for quantizer in (ours, theirs):
        quantizer.num_bits, quantizer.unsigned, quantizer.narrow_range, quantizer.amax = 8, True, False, 2.0
    same(ours, theirs, x.abs(), np.float32(2))


# --- checkpoints ---


@pytest.mark.parametrize(
    ("settings", "shape"),
    [({}, ()), ({"axis": 0}, (4, 1, 1)), ({"axis": (0, 1)}, (4, 4, 1)), ({"learn_amax": True, "amax": 0.9}, ())],
    ids=["per tensor", "per channel", "two axes", "learned"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_checkpoint_of_the_library_loads_and_goes_back(
    settings: dict[str, Any], shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    x = sample((4, 4, 4))
    ours, theirs = pair(**settings)
    amax = (sample(shape).abs() + 0.5).to(dtype)
    theirs.register_buffer("_amax", amax)
    for parameter in theirs.parameters():
        parameter.data *= 0.75
    result = ours.load_state_dict(theirs.state_dict())
    assert not result.missing_keys and not result.unexpected_keys
    assert ours.amax.shape == shape and torch.equal(ours.amax, amax.float()) and ours.amax.device.type == "cpu"
    torch.testing.assert_close(ours(x), theirs(x))
    back = LibraryQuantizer(QuantDescriptor(**settings))
    back.register_buffer("_amax", torch.ones(shape))
    back.load_state_dict(ours.state_dict())
    torch.testing.assert_close(back(x), ours(x))


def test_an_amax_of_nan_loads_and_is_seen() -> None:
    """So the library stores what `load_calib_amax(strict=False)` did not find."""
    theirs = LibraryQuantizer(QuantDescriptor())
    theirs.load_calib_amax(strict=False)
    ours = TensorQuantizer(QuantDescriptor())
    ours.load_state_dict(theirs.state_dict())
    assert ours(torch.ones(3)).isnan().all() and theirs(torch.ones(3)).isnan().all()


def test_a_state_without_amax_is_reported_where_one_is_expected() -> None:
    for quantizer in pair(amax=1.0):
        assert quantizer.load_state_dict({}, strict=False).missing_keys == ["_amax"]
        assert quantizer.amax == 1


# --- the operator, and its export ---


@pytest.mark.parametrize(
    ("x", "scale", "axis", "amax"),
    [
        (sample((3, 4)), torch.tensor(0.1), PER_TENSOR, None),
        (sample((3, 4)).half(), torch.tensor([0.1, 0.2, 0.3]), 0, torch.tensor([12.7, 25.4, 38.1])),
        (sample((3, 4)).t(), torch.full((4, 3), 0.1), PER_TENSOR, torch.full((4, 3), 12.7)),
    ],
    ids=["per tensor", "per channel", "broadcast"],
)
def test_the_operator_keeps_torchs_rules(
    x: torch.Tensor, scale: torch.Tensor, axis: int, amax: torch.Tensor | None
) -> None:
    torch.library.opcheck(fake_quantize, (x.requires_grad_(), scale, axis, -128, 127, "", amax))


def exported(**settings: Any) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """Returns the graph of one quantizer, its input and what it gives."""
    amax = settings.pop("stored", None)
    quantizer = TensorQuantizer(QuantDescriptor(**settings))
    if amax is not None:
        quantizer.set_amax(amax)
    model, x = torch.nn.Sequential(quantizer), sample((4, 4))
    return export_onnx(model, {"input": x.numpy()}, ("output",), {"input": {0: "n"}}), x, model(x)


@pytest.mark.parametrize(
    "settings",
    [
        {"amax": 0.7},
        {"amax": 0.7, "scale_amax": 0.5},
        {"amax": 0.7, "learn_amax": True},
        {"axis": 1, "stored": torch.tensor([0.5, 1.0, 1.5, 0.0])},
        {"axis": -1, "stored": torch.tensor([[0.5, 1.0, 1.5, 2.0]])},
        {"axis": (1,), "stored": torch.tensor([0.5, 1.0, 1.5, 2.0])},
        {"axis": None},
    ],
    ids=["one value", "scaled", "learned", "a list", "the library's shape", "a tuple", "dynamic"],
)
def test_the_graph_computes_what_the_quantizer_does(settings: dict[str, Any], tmp_path: Path) -> None:
    import onnx_ir as ir

    from pipeline.judge.reference import exact_session

    graph, x, expected = exported(**settings)
    if settings.get("axis") == 1:
        x[:, 3] = 0  # as amax says
        expected[:, 3] = 0
    ir.save(graph, tmp_path / "model.onnx")
    session = exact_session(tmp_path / "model.onnx")
    np.testing.assert_array_equal(session({"input": x.numpy()})["output"], expected.detach().numpy())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"axis": (0, 1)}, "QuantizeLinear has one scale, or one per channel of an axis"),
        ({"axis": 0, "stored": torch.ones(1, 4)}, "QuantizeLinear has one scale, or one per channel of an axis"),
        ({"amax": 1.0, "num_bits": 4}, r"QuantizeLinear of this export is signed 8-bit, the range is \[-8, 7\]"),
        ({"stored": torch.tensor(math.nan)}, "amax has values that are negative, infinite or NaN; calibrate it again"),
        ({"axis": 0, "stored": torch.tensor([1.0, -1.0, 1, 1])}, "amax has values that are negative, infinite or NaN"),
    ],
    ids=["two axes", "another axis", "four bits", "NaN", "negative"],
)
def test_what_a_graph_cannot_say_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        exported(**settings)
