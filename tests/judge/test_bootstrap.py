"""The bootstrap against its own definition, drawn again sample by sample, and the rules around it as numbers."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.judge import bootstrap
from pipeline.tasks import semantic_segmentation as segmentation
from pipeline.tasks import text_classification as classification


def test_draws_are_a_thousand_of_one_seed() -> None:
    tally = np.arange(7.0)
    (found,) = bootstrap.resampled(classification, tally)
    rng = np.random.default_rng(0)
    drawn = [rng.multinomial(7, np.full(7, 1 / 7)) / 7 @ tally for _ in range(1000)]
    np.testing.assert_allclose(found, drawn)


def test_draws_need_not_be_a_multiple_of_those_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 250)
    (found,) = bootstrap.resampled(classification, np.arange(7.0))
    assert found.shape == (250,)


def test_few_weights_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand draws from a hundred thousand samples would be 800 MB of weights."""
    sizes = []
    metric = bootstrap.metric
    monkeypatch.setattr(bootstrap, "metric", lambda task, tally: sizes.append(len(tally)) or metric(task, tally))
    bootstrap.resampled(classification, np.arange(7.0))
    assert sizes == [100] * 10


def test_two_models_are_drawn_alike() -> None:
    before = np.arange(5.0)
    first, second = bootstrap.resampled(classification, before, before + 1)
    np.testing.assert_allclose(second - first, 1)


def test_the_interval_is_the_middle_95_of_100() -> None:
    assert bootstrap.interval(np.arange(1001.0)) == pytest.approx((25, 975))


@pytest.mark.parametrize(("before", "after", "relative"), [(-2.0, -3.0, 0.5), (-2.0, -1.0, -0.5), (4.0, 3.0, 0.25)])
def test_a_drop_is_relative_to_the_size_of_the_metric(before: float, after: float, relative: float) -> None:
    found = bootstrap.drop_interval(classification, np.full(3, before), np.full(3, after))
    assert (found["relative_low"], found["relative_high"]) == pytest.approx((relative, relative))
    assert (found["low"], found["high"]) == pytest.approx((before - after, before - after))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("after", "relative"), [(0.0, 0.0), (0.5, 0.0), (-0.5, 1.0)])
def test_a_metric_of_zero_falls_by_all_or_nothing(after: float, relative: float) -> None:
    found = bootstrap.drop_interval(classification, np.zeros(3), np.full(3, after))
    assert (found["relative_low"], found["relative_high"]) == (relative, relative)


def test_an_interval_says_how_it_was_made() -> None:
    found = bootstrap.drop_interval(classification, np.ones(3), np.ones(3))
    assert found == {"low": 0, "high": 0, "relative_low": 0, "relative_high": 0, "level": 0.95, "resamples": 1000}


def test_chance_is_the_best_blind_answer_and_the_way_to_it() -> None:
    rng = np.random.default_rng(1)
    model = (rng.random(400) < 0.8).astype(float)
    blind = {"poor": np.zeros(400), "good": (rng.random(400) < 0.5).astype(float), "middling": np.full(400, 0.2)}
    found = bootstrap.above_chance(classification, model, blind)
    first, second = bootstrap.resampled(classification, model, blind["good"])
    low, high = np.quantile(first - second, [0.025, 0.975])
    assert found == {"answer": "good", "score": blind["good"].mean(), "low": low, "high": high, "level": 0.95}


def test_a_metric_has_the_digits_of_float64() -> None:
    assert bootstrap.metric(classification, np.ones(3, np.float32)).dtype == np.float64


def test_the_score_of_several_numbers_a_sample_is_the_metric_of_their_mean() -> None:
    masks = np.array([[[0, 1], [1, 1]], [[0, 0], [0, 1]]], np.uint8)
    labels = {"mask": masks, "class_names": np.array(["sky", "road"])}
    tally = segmentation.tally(np.zeros_like(masks), labels)
    assert tally.ndim == 2 and bootstrap.score(segmentation, tally) == pytest.approx(
        segmentation.score(0 * masks, labels)
    )


@pytest.mark.parametrize(
    ("drop", "interval", "expected"),
    [
        (0.0, (-0.01, 0.02), 400),
        (0.0, (-0.05, 0.02), 400),  # the end on the budget's side counts
        (0.02, (0.0, 0.05), 400),
        (0.0, (0.0, 0.010001), 101),  # one more at least
        (0.02, (0.01, 0.04), 101),  # of those there are a hundred already
        (0.02, (0.005, 0.05), 225),  # (0.015 / 0.01)² · 100
        (0.0, (0.01, 0.02), 400),  # a budget at the lower end is inside
        (0.0, (-0.01, 0.01), None),  # and at the upper end is kept
        (0.0, (0.0, 0.0145), 211),  # 210.25 rounded up
    ],
)
def test_samples_that_would_decide(drop: float, interval: tuple[float, float], expected: int | None) -> None:
    assert bootstrap.samples_to_decide(drop, interval, 0.01, 100) == expected
