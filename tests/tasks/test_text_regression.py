"""One number per text: correlations of SciPy, and numbers that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import head_data, tiny
from helpers.runs import recipe_for
from pipeline.errors import InputError
from pipeline.tasks import text_regression as task


def labelled(numbers: np.ndarray) -> dict[str, np.ndarray]:
    return {"number": np.array([repr(float(x)) for x in numbers]), "text": np.arange(len(numbers)).astype(str)}


@pytest.mark.parametrize("seed", range(3))
def test_the_correlations_are_those_of_scipy(seed: int) -> None:
    from scipy.stats import pearsonr, spearmanr

    rng = np.random.default_rng(seed)
    truth = np.round(rng.random(50) * 5, 1) + 1e4
    found = (truth + rng.standard_normal(50)).astype(np.float32)
    labels = labelled(truth)
    assert task.score(found, labels) == pytest.approx(pearsonr(found, truth).statistic, abs=1e-6)
    further = task.further({"logits": found[:, None]}, labels)
    assert further["spearman"] == pytest.approx(spearmanr(found, truth).statistic)
    assert further["mean absolute error"] == pytest.approx(np.abs(found - truth).mean())


def test_the_same_number_for_all_texts_is_correlated_with_nothing() -> None:
    truth = np.arange(20.0)
    (chance,) = task.chance(truth, labelled(truth), np.zeros((20, 5))).values()
    assert float(task.metric(chance.mean(0))) == 0
    assert task.score(np.full(20, 0.1, np.float32), labelled(truth)) == 0
    assert task.further({"logits": np.ones((20, 1))}, labelled(truth))["spearman"] == 0
    assert task.unjudgeable(labelled(np.full(3, 0.5))) == "every text is labelled 0.5"


def test_agreement_is_the_share_of_pairs_in_the_same_order() -> None:
    a = np.array([1.0, 2, 3, 4])
    assert task.agreement(a, 10 * a - 7) == 1 and task.agreement(a, -a) == 0
    assert task.agreement(a, np.array([1.0, 3, 2, 4])) == pytest.approx(5 / 6)
    assert task.agreement(a[:1], a[:1]) == 1


@pytest.mark.parametrize("label", ["high", None, True, "nan", float("inf"), [1], 10**400])
def test_what_is_no_number_is_told(label: Any) -> None:
    with pytest.raises(InputError, match=r"x row 3: label .* is not a number"):
        task._number(label, "x row 3")


def test_several_numbers_a_text_are_refused(tmp_path: Path) -> None:
    data = head_data.pairs(tmp_path / "data.jsonl", float)
    recipe = recipe_for("bert", tmp_path, tmp_path, data)
    with pytest.raises(InputError, match="gives 3 numbers for every text"):
        task.samples(recipe, {"num_labels": 3, "problem_type": "regression"}, "evaluation", 8, folder=tmp_path)


def test_pairs_are_encoded_as_the_checkpoints_own_tokenizer_does(tmp_path: Path) -> None:
    checkpoint = tiny.bert(tmp_path / "checkpoint", "BertForSequenceClassification", num_labels=1)
    recipe = recipe_for("bert", tmp_path / "made", checkpoint, head_data.pairs(tmp_path / "data.jsonl", float))
    raw = task.samples(recipe, {"num_labels": 1}, "evaluation", 8, folder=checkpoint)
    raw.append({"text": ("boat " * 40, "house " * 50), "label": 1.0})
    inputs, labels = task.encode(checkpoint, recipe, raw)
    for name, value in task.own_encoding(checkpoint, recipe, raw).items():
        np.testing.assert_array_equal(inputs[name], value, name)
    assert inputs["token_type_ids"].any(1).all() and " | " in labels["text"][0]
