"""Parity tells rounding from a wrong engine, and every way to be wrong is shown to fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers import qdq_models as models
from pipeline.judge.parity import (
    LARGEST_SQNR_DB,
    Difference,
    Limit,
    compare,
    cosine,
    max_abs_diff,
    sqnr_db,
    sqnr_db_of_all,
)
from pipeline.judge.reference import dithered_outputs, exact_session, float_session

SIGNAL = np.random.default_rng(0).standard_normal((4, 50)).astype(np.float32)


def quantized(x: np.ndarray, step: float, offset: float = 0.0) -> np.ndarray:
    """Rounds to a grid; another offset is another, unrelated rounding of the same size."""
    return (np.rint(x / step + offset) - offset) * step


def test_sqnr_by_hand() -> None:
    reference, value = np.array([[3.0, 4.0]]), np.array([[3.0, 4.5]])
    assert sqnr_db(reference, value) == pytest.approx(10 * np.log10(25 / 0.25))
    assert sqnr_db(reference, reference) == 144.5  # 24 bits
    assert np.isnan(sqnr_db(reference, np.array([[np.nan, 4.0]])))
    assert sqnr_db(np.zeros((1, 2)), value) == -144.5
    assert sqnr_db(reference, reference + 1e-9) == 144.5
    assert sqnr_db(1e-9 * reference, 1e9 * reference) == -144.5
    large = np.array([[1e30, 1e25]], np.float32)  # its square is no float32
    assert sqnr_db(large, large * np.float32(0.5)) == pytest.approx(10 * np.log10(4))


def test_sqnr_of_several_arrays_is_that_of_all_their_values() -> None:
    reference = {"a": np.array([[3.0], [0.0]]), "b": np.array([[4.0, 0.0]])}
    value = {"a": np.array([[3.0], [0.3]]), "b": np.array([[4.0, 0.4]]), "c": np.array([[9.0]])}
    assert sqnr_db_of_all(reference, value) == pytest.approx(10 * np.log10(25 / 0.25))


@pytest.mark.filterwarnings("error")
def test_cosine_is_the_worst_samples() -> None:
    assert cosine(SIGNAL, SIGNAL * 2) == pytest.approx(1)
    wrong = SIGNAL.copy()
    wrong[2] = -wrong[2]
    assert cosine(SIGNAL, wrong) == pytest.approx(-1)
    assert cosine(np.zeros((2, 3)), np.zeros((2, 3))) == 1
    assert cosine(np.zeros((1, 3)), np.ones((1, 3))) == 0
    assert cosine(np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]])) == pytest.approx(24 / 25)
    assert cosine(np.array([[3e-9, 4e-9]]), np.array([[4e-9, 3e-9]])) == pytest.approx(24 / 25)
    assert np.isnan(cosine(np.array([[1.0, 2.0]]), np.array([[1.0, np.inf]])))


def test_max_abs_diff() -> None:
    assert max_abs_diff(np.array([[1.0, 2.0]]), np.array([[1.5, -1.0]])) == 3
    assert max_abs_diff(np.array([[1.0, -2.0]]), np.array([[1.5, 1.0]])) == 3


def limits(step: float) -> dict[str, Limit]:
    """Returns what unrelated roundings of this size may do."""
    exact = quantized(SIGNAL, step)
    return {"y": Limit.of_neighbours(exact, [quantized(SIGNAL, step, x) for x in (0.3, 0.6)], SIGNAL)}


@pytest.mark.parametrize("step", [0.01, 0.1, 0.5])
def test_another_rounding_is_right(step: float) -> None:
    """Whatever the step: two unrelated roundings differ by twice what one of them moved, and by no gain or offset."""
    exact, engine = quantized(SIGNAL, step), quantized(SIGNAL, step, 0.45)
    (parity,) = compare({"y": exact}, {"y": engine}, limits(step))
    assert parity.reason is None
    assert 0 < parity.noise < parity.noise_limit < 10 * parity.noise


WRONG = {
    "lost sign": np.abs,
    "scale misread": lambda x: 1.3 * x,
    "scale 2 % too large": lambda x: 1.02 * x,
    "2 % of the mean sample added": lambda x: x + 0.02,
    "noise of 5 %": lambda x: x + 0.05 * np.random.default_rng(1).standard_normal(x.shape),
    "clipped": lambda x: np.clip(x, -0.5, 0.5),
    "samples exchanged": lambda x: x[::-1],
    "one sample zero": lambda x: x * np.array([1, 1, 0, 1])[:, None],
    "one sample 20 % too small": lambda x: x * np.array([1, 1, 0.8, 1])[:, None],
    "channels exchanged": lambda x: np.roll(x, 1, axis=1),
    "not a number": lambda x: np.where(x > 1, np.nan, x),
    "infinite": lambda x: np.where(x > 1, np.inf, x),
    "another shape": lambda x: x[:, :10],
}


@pytest.mark.parametrize("fault", sorted(WRONG))
@pytest.mark.parametrize("limit", ["int8", "fp16", "fp32"])
def test_a_wrong_engine_is_refused(fault: str, limit: str) -> None:
    exact = quantized(SIGNAL, 0.02)
    engine = WRONG[fault](exact)
    known = limits(0.02) if limit == "int8" else {"y": Limit.of_float(limit)}
    (parity,) = compare({"y": exact}, {"y": engine}, known)
    assert parity.reason is not None and parity.to_json()["passed"] is False


def test_the_limit_of_neighbours_by_hand() -> None:
    """Every constant of the formula as a number here, so that a changed one is seen."""
    exact = np.array([[2.0, 0.0], [0.0, 2.0]])  # energy 4 a sample
    neighbours = [exact + np.array([[0.01, 0.02], [0.0, 0.03]]), exact + np.array([[0.04, 0.0], [0.02, 0.01]])]
    original = exact + 0.1
    noise = np.array([0.0005, 0.0009, 0.0016, 0.0005]) / 4
    gain = np.array([0.01, 0.03, 0.04, 0.01]) * 2 / 4
    offset = np.array([0.015, 0.015, 0.02, 0.015]) / np.sqrt(2)
    floor = 0.1 * 0.02 / 4  # a tenth of what quantization moved
    of_mean, of_one = np.sqrt(1 / 2 + 1 / 4), np.sqrt(1 + 1 / 4)  # two samples, four measurements
    spread = np.log(noise + floor).std(ddof=1)
    found = Limit.of_neighbours(exact, neighbours, original)
    assert found.noise == pytest.approx(floor + 1.5 * noise.mean() * np.exp(5 * of_mean * spread))
    assert found.worst == pytest.approx(floor + 1.5 * noise.mean() * np.exp(5 * of_one * spread))
    for part, values in ((found.gain, gain), (found.offset, offset)):
        room = 2e-3 + noise.mean() + 5 * of_mean * values.std(ddof=1)
        assert part == pytest.approx((values.mean() - room, values.mean() + room))


def test_an_exact_graph_without_neighbours_apart_has_the_limit_of_float() -> None:
    found = Limit.of_neighbours(SIGNAL, [SIGNAL, SIGNAL], SIGNAL)
    assert found == Limit(pytest.approx(1e-6), pytest.approx(1e-6), (-2e-3, 2e-3), (-2e-3, 2e-3))  # type: ignore[arg-type]


def test_where_rounding_destroys_a_fifth_no_sample_may_differ_by_more() -> None:
    exact = np.ones((2, 4))
    found = Limit.of_neighbours(exact, [exact * 1.5, exact * 0.5], exact)
    assert (found.noise, found.worst) == (0.2, 0.2)


@pytest.mark.parametrize(
    ("moved", "noise", "worst"),
    [(1e-3, 4e-3, 8e-3), (1e-6, 1e-4, 2e-4), (0.03, 0.12, 0.2), (0.2, 0.2, 0.2)],
)
def test_without_neighbours_a_limit_is_four_times_what_quantization_moved(
    moved: float, noise: float, worst: float
) -> None:
    exact = np.ones((3, 5))
    found = Limit.of_quantization(exact, exact * (1 + np.sqrt(moved)))
    assert (found.noise, found.worst) == (pytest.approx(noise), pytest.approx(worst))
    assert found.gain == found.offset == (-np.inf, np.inf)


@pytest.mark.parametrize(("precision", "noise", "room"), [("fp32", 1e-6, 1e-3), ("fp16", 1e-3, 1e-2)])
def test_a_float_engine_may_differ_by_60_or_30_db(precision: str, noise: float, room: float) -> None:
    assert Limit.of_float(precision) == Limit(noise, 10 * noise, (-room, room), (-room, room))


def difference(noise: list[float], gain: float = 0.0, offset: float = 0.0) -> Difference:
    return Difference(np.array(noise), np.array([gain] * len(noise)), np.array([offset] * len(noise)))


FAULTS = {
    "at the limits": (difference([0.0, 0.2], 0.01, -0.01), []),
    "at the other ends": (difference([0.1], -0.02, 0.02), []),
    "noise": (difference([0.1, 0.3]), ["the difference has 0.2 of the signal's energy; rounding explains 0.1"]),
    "one sample": (
        difference([0.0, 0.0, 0.3]), ["one sample differs by 0.3 of the signal's energy; rounding explains 0.2"]),
    "gain": (
        difference([0.0], 0.02), ["a systematic gain of +2.00%; rounding explains -2.00% to +1.00%"]),
    "offset": (
        difference([0.0], 0.0, -0.02), ["a systematic offset of -2.00%; rounding explains -1.00% to +2.00%"]),
    "no number": (
        difference([np.nan]), ["the difference has nan of the signal's energy; rounding explains 0.1"]),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_a_limit_names_what_is_beyond_it(case: str) -> None:
    found, expected = FAULTS[case]
    assert Limit(0.1, 0.2, (-0.02, 0.01), (-0.01, 0.02)).faults(found) == expected


def test_the_mean_of_gain_and_offset_counts() -> None:
    found = Difference(np.zeros(2), np.array([0.03, -0.02]), np.array([0.03, -0.02]))
    assert Limit(0.1, 0.2, (-0.01, 0.01), (-0.01, 0.01)).faults(found) == []


def test_values_that_are_not_finite_in_both_are_no_fault_of_the_engine_alone() -> None:
    exact = np.array([[1.0, np.inf]])
    limit = {"y": Limit(0.1, 0.2)}
    with np.errstate(invalid="ignore"):
        (both,) = compare({"y": exact}, {"y": exact}, limit)
        (alone,) = compare({"y": np.ones((1, 2))}, {"y": exact}, limit)
    assert both.reason is not None and "not finite" not in both.reason
    assert alone.reason == "the engine gives values that are not finite"


def test_a_parity_by_hand() -> None:
    exact, engine = np.array([[3.0, 4.0], [0.0, 5.0]]), np.array([[3.0, 4.5], [0.0, 5.0]])
    (found,) = compare({"y": exact}, {"y": engine, "z": exact}, {"y": Limit(0.1, 0.2)})
    assert found.to_json() == {
        "output": "y", "cosine": pytest.approx(27 / (5 * np.sqrt(29.25))), "sqnr_db": pytest.approx(10 * np.log10(200)),
        "max_abs_diff": 0.5, "noise": pytest.approx(0.005), "noise_limit": 0.1, "reason": None, "passed": True,
    }  # fmt: skip
    (missing,) = compare({"y": exact}, {}, {"y": Limit(0.1, 0.2)})
    assert missing.noise_limit == 0.1 and missing.to_json()["passed"] is False
    assert np.isnan([missing.cosine, missing.sqnr_db, missing.max_abs_diff, missing.noise]).all()


def test_a_limit_survives_being_stored() -> None:
    assert Limit(1, 2, (3, 4), (5, 6)).to_array().tolist() == [1, 2, 3, 4, 5, 6]
    limit = limits(0.1)["y"]
    assert Limit.from_array(limit.to_array()) == limit
    assert Limit.from_array(Limit(0.1, 0.2).to_array()) == Limit(0.1, 0.2)


def test_where_rounding_destroys_everything_nothing_passes() -> None:
    """Neighbours without likeness explain any difference: their noise is no excuse beyond a fifth of the signal."""
    noise = np.random.default_rng(1).standard_normal((3, *SIGNAL.shape))
    limit = Limit.of_neighbours(SIGNAL, [noise[0], noise[1]], SIGNAL)
    (parity,) = compare({"y": SIGNAL}, {"y": noise[2]}, {"y": limit})
    assert limit.noise == 0.2 and parity.reason is not None


def test_the_difference_by_hand() -> None:
    reference, value = np.array([[3.0, 4.0], [0.0, 5.0]]), np.array([[3.0, 4.5], [0.0, 5.0]])
    found = Difference.between(reference, value)
    assert found.noise == pytest.approx([0.25 / 25, 0])  # relative to the mean sample's 25
    assert found.gain == pytest.approx([0.5 * 4 / 25, 0])
    assert found.offset == pytest.approx([0.25 / np.sqrt(12.5), 0])
    zeros = Difference.between(np.zeros((1, 2)), np.array([[1.0, 2.0]]))
    assert (zeros.noise[0], zeros.gain[0], zeros.offset[0]) == (5, 0, pytest.approx(1.5 / np.sqrt(0.5)))


def test_a_missing_output_is_refused() -> None:
    (parity,) = compare({"y": SIGNAL}, {"z": SIGNAL}, limits(0.1))
    assert parity.reason == "the engine gives nothing where the graph gives shape (4, 50)"


@pytest.mark.parametrize("graph", ["linear", "attention", "convolution"])
@pytest.mark.parametrize("factor", [0.2, 0.9, 1.1])
def test_a_corrupted_scale_is_refused(graph: str, factor: float, tmp_path: Path) -> None:
    """The check that guards every engine fails when one activation scale is off by a factor."""
    source = models.MAKERS[graph](tmp_path / "q.onnx")
    name = {"linear": "x_scale", "attention": "x_scale", "convolution": "image_scale"}[graph]
    wrong = models.change_scale(source, tmp_path / "wrong.onnx", name, factor)
    original = models.MAKERS[graph](tmp_path / "f.onnx", qdq=False)
    feeds = models.feeds(source, 4)
    assert all(p.reason is None for p in models.parities(source, original, float_session(source, 1), feeds))
    assert all(p.reason for p in models.parities(source, original, exact_session(wrong, 1), feeds))


@pytest.mark.parametrize("graph", ["linear", "attention", "convolution"])
def test_neighbours_round_a_little_differently(graph: str, tmp_path: Path) -> None:
    source = models.MAKERS[graph](tmp_path / "q.onnx")
    feeds = models.feeds(source, 64)
    exact = exact_session(source, 1)(feeds)
    first, second = dithered_outputs(source, feeds, 1, 2)
    again, _ = dithered_outputs(source, feeds, 1, 2)
    for name, x in exact.items():
        assert np.array_equal(first[name], again[name])  # equal artifacts from equal graphs
        assert not np.array_equal(first[name], second[name])
        assert 30 < sqnr_db(x, first[name]) < LARGEST_SQNR_DB
