"""Float32 outputs against others, and both against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.model.exactness import EXACT, LOSS, VALUES, Arrays, Difference, Own, difference, distance, samples_for


def outputs(*values: float) -> Arrays:
    return {"a": np.array(values, np.float64), "b": np.ones(2, np.float32)}


class Known(Own):
    """A checkpoint whose answers are known, in float32 and in float64."""

    def __init__(self, single: Arrays, exact: Arrays) -> None:
        vars(self).update(inputs={}, answers=(single, exact))


class Unasked(Own):
    def __init__(self) -> None:
        pass

    @property
    def answers(self) -> Any:
        raise AssertionError("float64 is asked only where it is needed")


def test_a_small_difference_needs_no_float64() -> None:
    found = difference(outputs(1, -4.0002), outputs(1, -4), Unasked(), dict)
    assert found.max_abs_diff == pytest.approx(2e-4) and found.relative == pytest.approx(5e-5)
    assert found.is_rounding and set(found.to_json()) == {"max_abs_diff", "relative"}


def test_each_output_is_held_against_its_own_largest_value() -> None:
    assert distance({"a": np.array([1e6]), "b": np.array([1.1])}, {"a": np.array([1e6]), "b": np.array([1.0])}) > 0.09


@pytest.mark.parametrize(("times", "accepted"), [(LOSS - 0.1, True), (LOSS + 0.1, False), (np.nan, False)])
def test_a_larger_one_may_be_a_few_times_as_far_from_float64_as_the_checkpoint(times: float, accepted: bool) -> None:
    loss = 10 * EXACT
    own = Known(outputs(1, -4 * (1 + loss)), outputs(1, -4))
    found = outputs(1, -4 * (1 - times * loss))
    result = difference(found, own.answers[0], own, lambda _: found)
    assert result.float32 == pytest.approx(loss) and result.is_rounding == accepted
    assert "from float64 where the checkpoint itself is 1.00e-03" in str(result)


def test_a_checkpoint_that_float32_carries_leaves_no_room() -> None:
    own, found = Known(outputs(1, -4), outputs(1, -4.00001)), outputs(1, -4.001)
    assert not difference(found, own.answers[0], own, lambda _: found).is_rounding


def test_outputs_that_are_no_numbers_prove_nothing() -> None:
    with np.errstate(invalid="ignore"):
        assert not difference(outputs(1, np.inf), outputs(1, np.inf), Unasked(), dict).is_rounding


def test_unequal_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"a has shape \(1,\), not \(2,\)"):
        difference(outputs(1), outputs(1, 2), Unasked(), dict)


def test_a_difference_says_what_it_was_held_against() -> None:
    assert str(Difference(1.0, 2e-5)) == "2.00e-05 of the largest"


def test_enough_samples_give_enough_values_of_every_output() -> None:
    assert samples_for({"logits": np.ones((3, 2)), "states": np.ones((3, 8, 4))}) == VALUES // 2
    assert samples_for({"logits": np.ones((1, 5, 64, 64))}) == 1


def test_the_checkpoints_own_model_answers_in_both_precisions() -> None:
    class Sum(torch.nn.Module):
        """1 + x - 1, of which float32 keeps nothing of a small x."""

        def __init__(self) -> None:
            super().__init__()
            self.one = torch.nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor, ids: torch.Tensor) -> Any:
            assert ids.dtype == torch.int64 and x.dtype == self.one.dtype
            return type("Outputs", (), {"y": self.one + x - self.one})

    inputs = {"x": np.full((2, 1), 1e-9, np.float32), "ids": np.zeros((2, 1), np.int64)}
    single, exact = Own(Sum, inputs, ("y",)).answers
    assert not single["y"].any() and exact["y"] == pytest.approx(1e-9)
