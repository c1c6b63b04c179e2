"""Any number of labels per text: F1 of scikit-learn, and lists of labels that could be read in two ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.runs import recipe_for
from pipeline.errors import InputError
from pipeline.tasks import multi_label_classification as task

NAMES = ["toxic", "rude", "spam"]


def made(seed: int, right: float = 0.8) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    truth = (rng.random((40, 3)) < (0.5, 0.3, 0.1)).astype(np.int64)
    found = np.where(rng.random(truth.shape) < right, truth, 1 - truth)
    return found, {"label": truth, "text": np.arange(40).astype(str), "class_names": np.array(NAMES)}


@pytest.mark.parametrize("seed", range(3))
def test_the_scores_are_those_of_scikit_learn(seed: int) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    found, labels = made(seed)
    tally = task.tally(found, labels)
    assert task.score(found, labels) == pytest.approx(f1_score(labels["label"], found, average="micro"))
    each = f1_score(labels["label"], found, average=None)
    assert list(task.per_class(tally, labels).values()) == pytest.approx(each.tolist())
    assert task.agreement(found, labels["label"]) == accuracy_score(labels["label"], found)


def test_a_label_is_given_where_it_is_likelier_than_not() -> None:
    found = task.predict({"logits": np.array([[-0.1, 0.0, 0.1], [3, 3, -3]], np.float32)}, {})
    assert found.tolist() == [[0, 0, 1], [1, 1, 0]]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([["toxic", "spam"], [], ["rude"]], [[1, 0, 1], [0, 0, 0], [0, 1, 0]]),
        ([[0, 2], [1]], [[1, 0, 1], [0, 1, 0]]),
        ([[1, 0, 1], [0, 0, 0]], [[1, 0, 1], [0, 0, 0]]),  # twice the same: no list of indices
        ([[1.0, 0.0, 1.0]], [[1, 0, 1]]),
        ([["1", "0", "1"], ["0", "0", "1"]], [[1, 0, 1], [0, 0, 1]]),
        ([[]], [[0, 0, 0]]),
    ],
)
def test_labels_are_names_indices_or_flags(labels: list[Any], expected: list[list[int]]) -> None:
    assert task.hot_labels(labels, NAMES, "x").tolist() == expected


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([["toxic"], "rude"], r"x row 2: expected a list of labels, found 'rude'"),
        ([["toxic"], None], r"x row 2: expected a list of labels, found no labels"),
        ([["toxic"], ["kind"]], r"x row 2: label 'kind' is not one of the checkpoint's"),
        ([[0, 3]], r"x row 1: label 3 is not one"),
        ([[0.5, 0.0, 1.0]], r"x row 1: label 0\.5 is not one"),
    ],
)
def test_other_labels_are_told_with_their_row(labels: list[Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        task.hot_labels(labels, NAMES, "x")


def test_lists_that_could_be_both_are_refused() -> None:
    with pytest.raises(InputError, match="could be classes, or 0 and 1 for every class"):
        task.hot_labels([[0, 1], [1, 0]], NAMES[:2], "x")


def test_a_table_with_a_column_for_every_class(tmp_path: Path) -> None:
    path = tmp_path / "comments.csv"
    path.write_text("id,text,toxic,rude,spam\n7,good,0,0,0\n8,bad,1,0,1\n9,worse,1,1,1\n", encoding="utf-8")
    recipe = recipe_for("bert", tmp_path, tmp_path, path, calibration__samples=1, verification__samples=2)
    config = {"id2label": dict(enumerate(NAMES))}
    rows = [row for split in ("calibration", "evaluation")
            for row in task.samples(recipe, config, split, 2, folder=tmp_path)]  # fmt: skip
    assert {row["text"]: row["label"].tolist() for row in rows} == {
        "good": [0, 0, 0], "bad": [1, 0, 1], "worse": [1, 1, 1]}  # fmt: skip


def test_texts_that_all_have_the_same_labels_judge_nothing() -> None:
    _, labels = made(0)
    labels["label"][:] = [1, 0, 1]
    assert task.unjudgeable(labels) == "every text is labelled ['toxic', 'spam']" and task.unseen(labels) == ["rude"]
    labels["label"][:] = 0
    assert task.unjudgeable(labels) == "no text has a label"
