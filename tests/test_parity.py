"""Parity tells rounding from a wrong engine, and every way to be wrong is shown to fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import qdq_models as models

from pipeline.parity import LARGEST_SQNR_DB, LIMITS, compare, cosine, max_abs_diff, sqnr_db
from pipeline.reference import exact_session, float_session

RNG = np.random.default_rng(0)
SIGNAL = RNG.standard_normal((4, 50)).astype(np.float32)


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


@pytest.mark.parametrize("step", [0.01, 0.1, 0.5])
def test_another_rounding_is_right(step: float) -> None:
    """Whatever the step: two unrelated roundings differ by about twice what one of them moved."""
    exact, engine = quantized(SIGNAL, step), quantized(SIGNAL, step, 0.5)
    (parity,) = compare({"y": exact}, {"y": engine}, {"y": SIGNAL})
    assert parity.reason is None
    assert parity.noise_share is not None and 1 < parity.noise_share < LIMITS["noise_share"]


WRONG = {
    "lost sign": np.abs,
    "scale misread": lambda x: 1.3 * x,
    "clipped": lambda x: np.clip(x, -0.5, 0.5),
    "samples exchanged": lambda x: x[::-1],
    "one sample zero": lambda x: x * np.array([1, 1, 0, 1])[:, None],
    "not a number": lambda x: np.where(x > 1, np.nan, x),
    "infinite": lambda x: np.where(x > 1, np.inf, x),
    "another shape": lambda x: x[:, :10],
}


@pytest.mark.parametrize("fault", sorted(WRONG))
@pytest.mark.parametrize("known", [True, False], ids=["with float outputs", "without"])
def test_a_wrong_engine_is_refused(fault: str, known: bool) -> None:
    exact = quantized(SIGNAL, 0.02)
    engine = WRONG[fault](exact)
    (parity,) = compare({"y": exact}, {"y": engine}, {"y": SIGNAL} if known else None)
    only_by_energy = fault == "scale misread" and not known  # the cosine is blind to a factor
    assert (parity.reason is None) == only_by_energy
    assert parity.to_json()["passed"] == only_by_energy


def test_a_missing_output_is_refused() -> None:
    (parity,) = compare({"y": SIGNAL}, {"z": SIGNAL})
    assert parity.reason == "the engine gives nothing where the graph gives shape (4, 50)"


@pytest.mark.parametrize("graph", ["linear", "attention", "convolution"])
def test_a_corrupted_scale_is_refused(graph: str, tmp_path: Path) -> None:
    """The check that guards every engine fails when one activation scale is off by a factor."""
    source = models.MAKERS[graph](tmp_path / "q.onnx")
    name = {"linear": "x_scale", "attention": "x_scale", "convolution": "image_scale"}[graph]
    wrong = models.change_scale(source, tmp_path / "wrong.onnx", name, 0.2)
    original = models.MAKERS[graph](tmp_path / "f.onnx", qdq=False)
    feeds = models.feeds(source, 4)
    exact, float_outputs = exact_session(source, 1)(feeds), float_session(original, 1)(feeds)
    assert all(p.reason is None for p in compare(exact, float_session(source, 1)(feeds), float_outputs))
    assert all(p.reason for p in compare(exact, exact_session(wrong, 1)(feeds), float_outputs))
