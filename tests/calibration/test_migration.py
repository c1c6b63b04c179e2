"""Factors that move outliers: predicted noise against quantized products, rescaled statistics against divided data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import CalibrationError, ChannelStatistic, Statistic, choose_factors, compute_amax, migration, rescale
from calibration.migration import STRENGTHS, Migration

CHANNELS, ROWS = 48, 6000
LEVELS = 127


def draws(seed: int) -> dict[str, Callable[[], np.ndarray]]:
    """Returns {name: draw of [ROWS, CHANNELS]}: what activations look like."""
    rng = np.random.default_rng(seed)
    shape = (ROWS, CHANNELS)
    gelu = rng.standard_normal(shape) * 2
    return {
        "normal": lambda: rng.standard_normal(shape),
        "shifted": lambda: rng.standard_normal(shape) + rng.standard_normal(CHANNELS),
        "relu": lambda: np.maximum(rng.standard_normal(shape), 0),
        "gelu": lambda: gelu / (1 + np.exp(-1.702 * gelu)),
        "heavy tail": lambda: rng.standard_t(5, shape),
        "sparse": lambda: rng.standard_normal(shape) * (rng.random(shape) < 0.05),
    }


def with_outliers(x: np.ndarray, gains: dict[int, float]) -> np.ndarray:
    factors = np.ones(x.shape[-1])
    factors[list(gains)] = list(gains.values())
    return (x * factors).astype(np.float32)


OUTLIERS = {3: 40.0, 17: 25.0, 40: 12.0}


def seen(x: np.ndarray) -> tuple[Statistic, ChannelStatistic]:
    """Returns both statistics of [rows, channels]."""
    tensor, channels = Statistic(name="x"), ChannelStatistic(x.shape[-1], name="x")
    tensor.collect(x)
    channels.collect(x, -1)
    return tensor, channels


# --- the statistic of x / factors ---


TWO = 100 * 2 / (ROWS * CHANNELS)  # per cent that two values are: between them a percentile of a thin tail may jump


def clipping_error(x: np.ndarray, amax: float) -> float:
    return float(np.square(quantized(x, amax) - x).sum())


def factors_for(kind: str, x: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(5)
    made = {
        "ones": lambda: np.ones(x.shape[1]),
        "powers of two": lambda: 2.0 ** rng.integers(-4, 5, x.shape[1]),
        "smoothing": lambda: np.sqrt(np.maximum(np.abs(x).max(0), 1e-3)),
        "any": lambda: np.exp(rng.standard_normal(x.shape[1])),
    }[kind]()
    return np.asarray(made, np.float32)


@pytest.mark.parametrize("draw", draws(0))
@pytest.mark.parametrize("kind", ["ones", "powers of two", "smoothing", "any"])
@pytest.mark.parametrize("gains", [{}, OUTLIERS], ids=["plain", "outliers"])
def test_the_rescaled_statistic_is_that_of_the_divided_data(draw: str, kind: str, gains: dict[int, float]) -> None:
    x = with_outliers(draws(1)[draw](), gains)
    factors = factors_for(kind, x)
    found, (direct, _) = rescale(*seen(x), factors), seen(x / factors)
    assert (found.elements, found.zeros, found.batches) == (direct.elements, direct.zeros, 1)
    assert (found.has_negative, found.bins, found.name) == (direct.has_negative, 2048, "x")
    assert found.amax == direct.amax, "the largest of all divisions, each rounded once"
    resolution = float((seen(x)[1].widths / factors).max()) + found.width  # no value moves further
    for percentile in (99.0, 99.9, 99.99, 99.999):
        amax = compute_amax(found, "percentile", percentile=percentile)
        low, high = (compute_amax(direct, "percentile", percentile=percentile + two) for two in (-TWO, TWO))
        assert low - resolution <= amax <= high + resolution, percentile
        if not gains:
            assert low * 0.97 <= amax <= high * 1.03, percentile
    error, least = (clipping_error(x / factors, compute_amax(statistic, "mse")) for statistic in (found, direct))
    assert error <= 1.03 * least, "amax by mse loses hardly more than the best"
    Statistic.from_arrays(found.to_arrays())  # keeps every invariant


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from([2, 64, 2048]))
def test_totals_and_invariants_hold_whatever_the_data(channels: int, count: int, seed: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, channels)) * 10.0 ** rng.uniform(-25, 25, channels)
    x = np.where(rng.random(x.shape) < 0.3, 0, x).astype(np.float32)
    tensor, per_channel = Statistic(bins), ChannelStatistic(channels)
    tensor.collect(x)
    per_channel.collect(x, -1)
    factors = (10.0 ** rng.uniform(-6, 6, channels)).astype(np.float32)
    found = rescale(tensor, per_channel, factors)
    direct = Statistic(bins)
    direct.collect(x / factors)
    assert (found.elements, found.zeros, found.amax) == (x.size, int((x == 0).sum()), direct.amax)
    assert (found.counts >= 0).all()
    assert Statistic.from_arrays(found.to_arrays()) == found


def test_factors_of_one_keep_max_and_nearly_the_histogram() -> None:
    x = with_outliers(draws(2)["normal"](), OUTLIERS)
    tensor, per_channel = seen(x)
    found = rescale(tensor, per_channel, np.ones(CHANNELS, np.float32))
    assert compute_amax(found, "max") == tensor.amax
    assert np.abs(np.cumsum(found.counts) - np.cumsum(tensor.counts)).max() < 0.02 * tensor.elements


@pytest.mark.parametrize("silent", [0.0, 1e-45, 1e-30, 1e-9])
def test_silent_channels_do_not_drown_the_others(silent: float) -> None:
    x = draws(3)["normal"]().astype(np.float32)
    x[:, ::3] *= np.float32(silent)
    factors = np.full(CHANNELS, 2.0, np.float32)
    found, (direct, _) = rescale(*seen(x), factors), seen(x / factors)
    for percentile in (70.0, 90.0, 99.0, 99.99):
        expected = compute_amax(direct, "percentile", percentile=percentile)
        assert compute_amax(found, "percentile", percentile=percentile) == pytest.approx(expected, rel=0.02)


def test_a_tensor_of_zeros_stays_one() -> None:
    zeros = np.zeros((5, 3), np.float32)
    found = rescale(*seen(zeros), np.array([1, 2, 3], np.float32))
    assert found == seen(zeros)[0] and found.is_degenerate == seen(zeros)[0].is_degenerate


def test_statistics_of_different_data_are_refused() -> None:
    x = draws(4)["relu"]().astype(np.float32)
    ones = np.ones(CHANNELS, np.float32)
    tensor, per_channel = seen(x)
    for other in (x[1:], 2 * x):
        numbers = rf"{tensor.elements} values up to {tensor.amax:g} per tensor, {other.size} up to {other.max():g} per"
        with pytest.raises(CalibrationError, match=rf"quantizer 'x': {numbers} channel; .*different data"):
            rescale(tensor, seen(other)[1], ones)
        with pytest.raises(CalibrationError, match="saw different data"):
            rescale(seen(other)[0], per_channel, ones)
    fewer_zeros = np.maximum(x, np.float32(x.max() / 10))
    with pytest.raises(CalibrationError, match="saw different data"):
        rescale(tensor, seen(fewer_zeros)[1], ones)


# --- factors ---


def quantized(x: np.ndarray, amax: np.ndarray | float) -> np.ndarray:
    step = np.where(np.asarray(amax) > 0, np.asarray(amax, np.float64) / LEVELS, 1.0)
    return np.asarray(np.clip(np.rint(x / step), -LEVELS, LEVELS) * step)


def product(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Returns what weights [N, C, T] make of [rows, C]: every tap one product; [C, 1, T] channel by channel."""
    if w.shape[1] == 1:
        return np.asarray(np.einsum("rc,ct->rct", x, w[:, 0]))
    return np.asarray(np.einsum("rc,nct->rnt", x, w))


def measured(x: np.ndarray, weights: list[np.ndarray], factors: np.ndarray) -> float:
    """Returns the mean squared error of quantized products, relative to their mean square, by brute force."""
    divided = x / factors
    error = power = 0.0
    for w in weights:
        scaled = w * (factors[:, None, None] if w.shape[1] == 1 else factors[None, :, None])
        found = product(
            quantized(divided, np.abs(divided).max()), quantized(scaled, np.abs(scaled).max((1, 2), keepdims=True))
        )
        true = product(x.astype(np.float64), w)
        error, power = error + float(np.square(found - true).sum()), power + float(np.square(true).sum())
    return error / power


def linear(seed: int, outputs: int = 32, taps: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((outputs, CHANNELS, taps)).astype(np.float32)


def depthwise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((CHANNELS, 1, 9)).astype(np.float32)


WEIGHTS: dict[str, list[np.ndarray]] = {
    "linear": [linear(1)],
    "query, key, value": [linear(1), linear(2), linear(3)],
    "convolution": [linear(4, 8, taps=9)],
    "depthwise": [depthwise(5)],
    "uneven weights": [linear(6) * np.logspace(-1, 1, CHANNELS, dtype=np.float32)[None, :, None]],
}


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("draw", ["normal", "gelu", "heavy tail"])
@pytest.mark.parametrize("gains", [{}, OUTLIERS], ids=["plain", "outliers"])
def test_the_predicted_noise_is_the_measured_one(
    weights: str, draw: str, gains: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        migration, "_clipping", lambda amax, s, values: np.zeros_like(amax)
    )  # of new data, not of these
    x = with_outliers(draws(7)[draw](), gains)
    found = choose_factors(seen(x)[1], WEIGHTS[weights])
    before = measured(x, WEIGHTS[weights], np.ones(CHANNELS, np.float32))
    after = measured(x, WEIGHTS[weights], found.factors)
    assert before / 2 < found.noise_before < before * 2
    assert after / 2 < found.noise < after * 2
    gain = 10 * np.log10(before / after)
    assert gain == pytest.approx(found.gain_db, abs=3.0)
    assert gain > -0.1, "no worse than without"
    if gains:
        assert found.gain_db > 5 and gain > 5


@pytest.mark.parametrize("count", [100, 1000, 10000])
def test_what_new_data_will_lose_to_clipping_is_predicted(count: int) -> None:
    """Exponential tails, every channel calibrated to its own largest of `count` values: no headroom anywhere."""
    rng = np.random.default_rng(count)
    amax = rng.exponential(size=(4000, count)).max(axis=1)
    new = rng.exponential(size=(50, 4000))
    lost = np.square(np.maximum(new - amax, 0.0)).mean()
    predicted = migration._clipping(amax, amax.astype(np.float32), count).mean()
    assert predicted / 2.5 < lost < predicted * 2.5
    roomy = migration._clipping(amax, np.where(np.arange(4000) < 1, 1e-3, 1.0).astype(np.float32) * amax, count)
    assert roomy[1:].max() < 1e-6 * predicted, "a range far above its amax clips nothing"


def test_the_strengths_are_all_of_0_to_1_in_twentieths() -> None:
    assert tuple(i / 20 for i in range(21)) == STRENGTHS


def test_clipping_by_hand() -> None:
    amax, s = np.array([1.0, 4.0]), np.ones(2, np.float32)
    beta = amax / np.log(3 + 2)
    expected = 2 * beta**2 / (3 + 1) * np.exp(-(4 - amax) / beta)  # both channels have the range of the larger one
    np.testing.assert_allclose(migration._clipping(amax, s, 3), expected)


def test_few_values_forbid_a_high_strength() -> None:
    strengths = []
    for count in (64, 512, 8192):
        x = with_outliers(np.random.default_rng(3).laplace(size=(count, CHANNELS)), OUTLIERS)
        strengths.append(choose_factors(seen(x)[1], [linear(1)]).strength)
    assert strengths == sorted(strengths) and strengths[0] < strengths[-1]


@pytest.mark.parametrize("draw", draws(0))
def test_without_outliers_it_does_not_get_worse(draw: str) -> None:
    x = draws(8)[draw]().astype(np.float32)
    found = choose_factors(seen(x)[1], [linear(9)])
    assert found.gain_db >= 0
    after, before = measured(x, [linear(9)], found.factors), measured(x, [linear(9)], np.ones(CHANNELS, np.float32))
    assert after <= before * 1.05


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_strength_is_the_best_of_all_by_brute_force(weights: str) -> None:
    x = with_outliers(draws(10)["normal"](), OUTLIERS)
    channels = seen(x)[1]
    square = sum(np.square(w.astype(np.float64)).sum((1 - int(w.shape[1] != 1), 2)) for w in WEIGHTS[weights])
    moment = channels.second_moment()
    noise = []
    for strength in STRENGTHS:
        s = channels.amax.astype(np.float64) ** strength / np.sqrt(square) ** (1 - strength) if strength else 1.0
        s = np.broadcast_to(s, (CHANNELS,)) / np.exp(np.log(np.broadcast_to(s, (CHANNELS,))).mean())
        total = 0.0
        for w in WEIGHTS[weights]:
            scaled = w * (s[:, None, None] if w.shape[1] == 1 else s[None, :, None])
            error = quantized(scaled, np.abs(scaled).max((1, 2), keepdims=True)) - scaled
            axes = (1, 2) if w.shape[1] == 1 else (0, 2)
            step = (channels.amax / s).max() / LEVELS
            total += (np.square(error).sum(axes) * moment / s**2).sum() + step**2 / 12 * np.square(scaled).sum()
        beta = channels.amax / np.log(len(x) + 2)
        beyond = np.exp(-(s * (channels.amax / s).max() - channels.amax) / beta) / (len(x) + 1)
        total += (square * 2 * beta**2 * beyond).sum()
        noise.append(total / (square @ moment))
    found = choose_factors(channels, WEIGHTS[weights])
    assert found.strength == STRENGTHS[int(np.argmin(noise))] and 0 < found.strength <= 1
    assert found.noise == pytest.approx(min(noise), rel=1e-3)
    assert found.noise_before == pytest.approx(noise[0], rel=1e-3)
    assert found.gain_db == pytest.approx(10 * np.log10(noise[0] / min(noise)), abs=0.01)


def test_factors_are_positive_with_a_geometric_mean_of_one_and_follow_the_outliers() -> None:
    x = with_outliers(draws(11)["normal"](), OUTLIERS)
    found = choose_factors(seen(x)[1], [linear(12)])
    assert found.factors.dtype == np.float32 and (found.factors > 0).all()
    assert np.log(found.factors).mean() == pytest.approx(0, abs=1e-5)
    assert set(np.argsort(found.factors)[-3:].tolist()) == set(OUTLIERS)


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1e4, 1e15])
def test_the_scale_of_data_and_weights_does_not_matter(scale: float) -> None:
    x = with_outliers(draws(13)["normal"](), OUTLIERS)
    usual = choose_factors(seen(x)[1], [linear(14)])
    found = choose_factors(seen((x * 2.0**10).astype(np.float32))[1], [(linear(14) * scale).astype(np.float32)])
    small = choose_factors(seen((x * 2.0**-20).astype(np.float32))[1], [linear(14)])
    assert found.strength == usual.strength == small.strength
    np.testing.assert_allclose(found.factors, usual.factors, rtol=1e-4)


def none(channels: int) -> Migration:
    return Migration(np.ones(channels, np.float32), 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("x", "w"),
    [
        (np.zeros((10, 4), np.float32), np.ones((3, 4, 1), np.float32)),
        (np.ones((10, 4), np.float32), np.zeros((3, 4, 1), np.float32)),
        (np.ones((10, 4), np.float32), np.zeros((4, 1, 9), np.float32)),
        (np.ones((10, 1), np.float32), np.ones((8, 1, 9), np.float32)),  # a convolution of a grey image
    ],
    ids=["zero data", "zero weights", "zero depthwise weights", "one channel"],
)
@pytest.mark.filterwarnings("error")
def test_where_there_is_nothing_to_migrate_nothing_is(x: np.ndarray, w: np.ndarray) -> None:
    found = choose_factors(seen(x)[1], [w])
    np.testing.assert_array_equal(found.factors, none(x.shape[1]).factors)
    assert (found.strength, found.gain_db, found.noise, found.noise_before) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.filterwarnings("error")
def test_silent_channels_and_unread_ones_get_finite_factors() -> None:
    x = with_outliers(draws(15)["normal"](), OUTLIERS)
    x[:, 5] = 0
    w = linear(16)
    w[:, 6] = 0
    w[7] = 0
    found = choose_factors(seen(x)[1], [w])
    assert np.isfinite(found.factors).all() and (found.factors > 0).all()
    assert found.gain_db > 5
    assert measured(x, [w], found.factors) < measured(x, [w], np.ones(CHANNELS, np.float32)) / 3
    rescaled = rescale(*seen(x), found.factors)
    assert rescaled.amax == pytest.approx(float(np.abs(x / found.factors).max()), rel=1e-6)


def test_a_large_weight_is_judged_by_a_sample_of_its_rows() -> None:
    x = with_outliers(draws(17)["normal"](), OUTLIERS)
    whole, few = linear(18, 1536), linear(18, 1536)[::6]
    a, b = choose_factors(seen(x)[1], [whole]), choose_factors(seen(x)[1], [few])
    assert (a.strength, a.noise) == (b.strength, b.noise)
    np.testing.assert_array_equal(a.factors, b.factors)
    assert measured(x[:500], [whole], a.factors) == pytest.approx(a.noise, rel=1.0)


# --- tensors on the way ---


def test_a_tensor_on_the_way_adds_its_own_step() -> None:
    context = with_outliers(draws(19)["normal"](), {3: 8.0})
    values = with_outliers(draws(20)["normal"](), {3: 8.0, 30: 100.0})  # an outlier that averaging hides
    plain, both = seen(context)[1], seen(values)[1]
    alone = choose_factors(plain, [linear(21)])
    found = choose_factors(plain, [linear(21)], also=[both])
    power = float(np.square(linear(21).astype(np.float64)).sum((0, 2)) @ plain.second_moment())
    step = float(both.amax.max()) / LEVELS
    added = step**2 / 12 * float(np.square(linear(21).astype(np.float64)).sum()) / power
    assert found.noise_before == pytest.approx(alone.noise_before + added, rel=1e-5)
    factors = [m.factors for m in (found, alone)]
    noise = [float((both.amax / f).max() ** 2 * np.square(linear(21) * f[None, :, None]).sum()) for f in factors]
    assert noise[0] <= noise[1], "the factors do not forget it"
    twice = choose_factors(plain, [linear(21)], also=[plain])
    assert alone.noise_before < twice.noise_before < 2 * alone.noise_before


# --- refusals ---


@pytest.mark.parametrize(
    "weights",
    [[], [np.ones((3, 5, 1))], [np.ones((3, 4))], [np.ones((3, 1, 9))], [np.ones((3, 4, 1)), np.ones((3, 5, 1))]],
    ids=["none", "other channels", "two axes", "depthwise of others", "one of two"],
)
def test_weights_that_do_not_read_these_channels_are_refused(weights: list[Any]) -> None:
    channels = seen(np.ones((10, 4), np.float32))[1]
    with pytest.raises(CalibrationError, match=r"channels=4.*weights \[N, 4, T\] are needed, found"):
        choose_factors(channels, weights)


def test_other_tensors_must_have_the_same_channels() -> None:
    a, b = seen(np.ones((10, 4), np.float32))[1], seen(np.ones((10, 8), np.float32))[1]
    with pytest.raises(CalibrationError, match=r"channels=8.*has other channels"):
        choose_factors(a, [np.ones((3, 4, 1), np.float32)], also=[b])
