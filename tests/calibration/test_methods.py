"""Every method against its definition, written out with loops, and against the data themselves."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import CalibrationError, Statistic, compute_all, compute_amax, method_key
from calibration.methods import quantization_levels
from calibration.searches import START_BIN, entropy_edge, mse_centre, percentile_edge

relaxed = settings(deadline=None, max_examples=40)
seeds = st.integers(0, 2**32 - 1)
DRAWS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "relu": lambda rng, n: np.maximum(rng.normal(size=n), 0.0),
    "heavy tail": lambda rng, n: rng.standard_t(2, size=n),
    "outlier": lambda rng, n: np.append(rng.normal(size=n - 1), 40.0),
    "few": lambda rng, n: rng.normal(size=7),
    "two spikes": lambda rng, n: rng.choice([-3.0, 3.0, 0.7], size=n),
    "constant": lambda rng, n: np.full(n, 1.7),
    "softmax": lambda rng, n: np.exp(9 * rng.normal(size=n)) / np.exp(40),
}
draws = st.sampled_from(sorted(DRAWS))


def drawn(draw: str, seed: int, size: int = 4000, bins: int = 256) -> tuple[np.ndarray, Statistic]:
    """Returns the values and the statistic that saw them."""
    x = DRAWS[draw](np.random.default_rng(seed), size).astype(np.float32)
    statistic = Statistic(bins)
    statistic.collect(x)
    return x, statistic


@relaxed
@given(draws, seeds, st.sampled_from([0.0, 50.0, 99.0, 99.9, 99.99, 100.0]))
def test_percentile_is_the_smallest_edge_that_covers_the_share(draw: str, seed: int, percentile: float) -> None:
    x, statistic = drawn(draw, seed)
    magnitudes = np.abs(x).astype(np.float64)
    edge = percentile_edge(statistic.counts, percentile) * statistic.width
    needed = Fraction(str(percentile)) * len(x) / 100
    assert np.sum(magnitudes <= edge) >= needed
    below = edge - statistic.width
    assert below == 0.0 or np.sum(magnitudes <= below) < needed
    assert compute_amax(statistic, "percentile", percentile=percentile) == min(edge, magnitudes.max())


def test_candidates_begin_where_those_of_the_libraries_do() -> None:
    assert START_BIN == 128


def test_percentile_counts_exactly() -> None:
    # 99.9 % of 1000 is 999 values; in binary fractions it would be 999.0000000000001.
    counts = np.array([0, 999, 0, 1], np.int64)
    assert percentile_edge(counts, 99.9) == 1
    assert percentile_edge(counts, 99.91) == 3


def test_percentile_below_the_zeros_gives_the_first_edge() -> None:
    assert percentile_edge(np.array([9999, 1, 0, 1], np.int64), 99.0) == 1


def quantization_error(bins: np.ndarray, amax: float, levels: int) -> float:
    """Returns Σ h (x − Q(x))² over the bin centres, in units of the bin width."""
    centres = np.arange(len(bins)) + 0.5
    quantized = np.minimum(np.rint(centres * levels / amax), levels) * amax / levels
    return float(np.sum(bins * (centres - quantized) ** 2))


@relaxed
@given(draws, seeds, st.sampled_from([3, 7, 127, 255]))
def test_mse_is_the_best_of_all_candidates(draw: str, seed: int, levels: int) -> None:
    bins = drawn(draw, seed)[1].histogram()
    candidates = np.arange(min(START_BIN, len(bins) - 1), len(bins)) + 0.5
    errors = np.array([quantization_error(bins, amax, levels) for amax in candidates])
    chosen = mse_centre(bins, levels)
    assert chosen in candidates
    assert quantization_error(bins, chosen, levels) <= errors.min() * (1 + 1e-9) + 1e-9 * bins.sum()


def divergence(bins: np.ndarray, edge: int, groups: int) -> float:
    """Returns KL(P ‖ Q) of one candidate, bin by bin: P is clipped, Q squeezed into groups, then spread."""
    clipped = bins[:edge].copy()
    clipped[-1] += bins[edge:].sum()
    squeezed = np.zeros(edge)
    group_of = np.arange(edge) * groups // edge
    for group in range(groups):
        members = (group_of == group) & (bins[:edge] > 0)
        if members.any():
            squeezed[members] = bins[:edge][members].sum() / members.sum()
    if squeezed.sum() == 0 or (squeezed[clipped > 0] == 0).any():
        return math.inf
    p, q = clipped / clipped.sum(), squeezed / squeezed.sum()
    some = p > 0
    return float(np.sum(p[some] * np.log(p[some] / q[some])))


@relaxed
@given(draws, seeds, st.sampled_from([4, 8, 128, 256]))
def test_entropy_is_the_best_of_all_candidates(draw: str, seed: int, groups: int) -> None:
    bins = drawn(draw, seed)[1].histogram()
    chosen = entropy_edge(bins, groups)
    bins[0] = bins[1]
    candidates = range(START_BIN, len(bins) + 1)
    divergences = np.array([divergence(bins, edge, groups) for edge in candidates])
    best = divergences.min()
    if math.isinf(best):
        assert chosen == len(bins)
        return
    assert divergences[chosen - START_BIN] <= best + 1e-9


@pytest.mark.parametrize("size", [1, 2, 5, 127, 128, 129, 130])
def test_searches_take_histograms_of_any_length(size: int) -> None:
    bins = np.arange(1.0, size + 1)
    assert 0.5 <= mse_centre(bins, 127) <= size - 0.5
    assert 1 <= entropy_edge(bins, 128) <= size


@relaxed
@given(draws, seeds, st.sampled_from([4, 8]), st.sampled_from([256, 2048]))
def test_no_method_exceeds_the_exact_amax(draw: str, seed: int, num_bits: int, bins: int) -> None:
    x, statistic = drawn(draw, seed, bins=bins)
    amax = compute_all(statistic, (99.0, 99.999), num_bits=num_bits, unsigned=not statistic.has_negative)
    assert list(amax) == ["max", "percentile_99", "percentile_99.999", "mse", "entropy"]
    assert amax["max"] == np.abs(x).max()
    assert all(0.0 < value <= amax["max"] for value in amax.values())
    assert all(np.float32(value) == value for value in amax.values())
    assert amax["percentile_99"] <= amax["percentile_99.999"]


def test_known_optima_of_a_normal_distribution() -> None:
    # Max 1960, "Quantizing for minimum distortion", table II: 15 uniform levels on N(0, 1) are 0.3534 apart.
    statistic = drawn("normal", 0, size=1_000_000, bins=2048)[1]
    assert compute_amax(statistic, "mse", num_bits=4) == pytest.approx(7 * 0.3534, abs=0.01)
    assert compute_amax(statistic, "percentile", percentile=99.73) == pytest.approx(3.0, abs=0.02)


def test_scaling_by_a_power_of_two_scales_every_amax() -> None:
    x, statistic = drawn("heavy tail", 3)
    scaled = Statistic(256)
    scaled.collect(x * np.float32(2.0**-20))
    assert compute_all(scaled) == {key: value * 2.0**-20 for key, value in compute_all(statistic).items()}


def test_a_quantizer_without_amax_is_an_error_that_names_it() -> None:
    statistic = Statistic(name="pooler.input")
    for said in ("was never reached", "nothing but zeros"):
        with pytest.raises(CalibrationError, match=f"'pooler.input' .*{said}"):
            compute_amax(statistic, "max")
        statistic.collect(np.zeros(3, np.float32))


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("median", {}, "unknown calibration method 'median'; available: max, percentile, mse, entropy"),
        ("percentile", {"percentile": 100.1}, "percentile = 100.1"),
        ("percentile", {"percentile": math.nan}, "percentile = nan"),
        ("max", {"unsigned": True}, "saw negative values"),
        ("mse", {"num_bits": 1}, "num_bits = 1"),
        ("entropy", {"num_bits": 16}, "num_bits = 16"),
        ("mse", {"num_bits": 11}, "num_bits = 11"),
    ],
)
def test_impossible_requests_are_refused(method: str, options: dict, said: str) -> None:
    with pytest.raises(CalibrationError, match=said):
        compute_amax(drawn("normal", 0)[1], method, **options)


@pytest.mark.parametrize(
    ("bits", "unsigned", "levels"), [(2, False, 1), (2, True, 3), (8, False, 127), (8, True, 255), (10, False, 511)]
)
def test_levels_of_2_to_10_bits(bits: int, unsigned: bool, levels: int) -> None:
    assert quantization_levels(bits, unsigned) == levels


def test_without_a_word_it_is_8_signed_bits_and_three_percentiles() -> None:
    statistic = Statistic()
    statistic.collect(np.abs(np.random.default_rng(0).standard_t(3, 20_000)))  # a tail that is worth cutting
    assert [*compute_all(statistic)] == [
        "max", "percentile_99.9", "percentile_99.99", "percentile_99.999", "mse", "entropy",
    ]  # fmt: skip
    for method in ("mse", "entropy"):
        usual = compute_amax(statistic, method, num_bits=8, unsigned=False)
        assert compute_amax(statistic, method) == compute_all(statistic)[method] == usual
    others = [compute_amax(statistic, "mse", num_bits=bits) for bits in (7, 9)]
    assert compute_amax(statistic, "mse") not in (*others, compute_amax(statistic, "mse", unsigned=True))
    assert compute_amax(statistic, "percentile") == compute_amax(statistic, "percentile", percentile=99.99)
    assert compute_amax(statistic, "percentile") != compute_amax(statistic, "percentile", percentile=98.99)
    assert method_key("percentile") == "percentile_99.99"
    several = [compute_all(statistic)[f"percentile_{p}"] for p in (99.9, 99.99, 99.999)]
    assert several == [compute_amax(statistic, "percentile", percentile=p) for p in (99.9, 99.99, 99.999)]
    assert len(set(several)) == 3


@pytest.mark.parametrize(
    ("method", "percentile", "key"),
    [
        ("max", 99.9, "max"),
        ("percentile", 99.0, "percentile_99"),
        ("percentile", 99.99999, "percentile_99.99999"),
    ],
)
def test_method_keys(method: str, percentile: float, key: str) -> None:
    assert method_key(method, percentile) == key
