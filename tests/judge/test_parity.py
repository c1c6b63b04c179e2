"""Parity tells rounding from a wrong engine, and every way to be wrong is shown to fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers import qdq_models as models
from pipeline.judge.parity import LARGEST_SQNR_DB, Difference, Limit, compare, cosine, max_abs_diff, sqnr_db
from pipeline.judge.reference import dithered_outputs, exact_session, float_session

SIGNAL = np.random.default_rng(0).standard_normal((4, 50)).astype(np.float32)


def quantized(x: np.ndarray, step: float, offset: float = 0.0) -> np.ndarray:
    """Rounds to a grid; another offset is another, unrelated rounding of the same size."""
    return (np.rint(x / step + offset) - offset) * step


def test_sqnr_by_hand() -> None:
    reference, value = np.array([[3.0, 4.0]]), np.array([[3.0, 4.5]])
    assert sqnr_db(reference, value) == pytest.approx(10 * np.log10(25 / 0.25))
    assert sqnr_db(reference, reference) == LARGEST_SQNR_DB
    assert np.isnan(sqnr_db(reference, np.array([[np.nan, 4.0]])))
    assert sqnr_db(np.zeros((1, 2)), value) == -LARGEST_SQNR_DB


def test_cosine_is_the_worst_samples() -> None:
    assert cosine(SIGNAL, SIGNAL * 2) == pytest.approx(1)
    wrong = SIGNAL.copy()
    wrong[2] = -wrong[2]
    assert cosine(SIGNAL, wrong) == pytest.approx(-1)
    assert cosine(np.zeros((2, 3)), np.zeros((2, 3))) == 1
    assert cosine(np.zeros((1, 3)), np.ones((1, 3))) == 0


def test_max_abs_diff() -> None:
    assert max_abs_diff(np.array([[1.0, 2.0]]), np.array([[1.5, -1.0]])) == 3


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


def test_a_limit_survives_being_stored() -> None:
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
