"""Questions without an answer (SQuAD v2) and the windows of long contexts, as transformers' own evaluation has them."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import head_data
from helpers.runs import recipe_for
from pipeline.errors import InputError
from pipeline.recipe import Recipe
from pipeline.tasks import question_answering as qa

LONG = {"id": "1", "question": "where is it?", "context": "boat house lamp " * 30, "answers": ["boat"]}


@pytest.fixture
def recipe(checkpoints: dict[str, Path], tmp_path: Path) -> Recipe:
    return recipe_for("bert", tmp_path / "made", checkpoints["bert"], head_data.squad_v2(tmp_path / "squad.json", 16),
                      calibration__samples=1, verification__samples=7)  # fmt: skip


def with_threshold(recipe: Recipe, threshold: float) -> Recipe:
    asked = recipe.question_answering.model_copy(update={"no_answer_threshold": threshold})
    return recipe.model_copy(update={"question_answering": asked})


def test_questions_without_an_answer_are_taken_where_the_recipe_says_when(recipe: Recipe, tmp_path: Path) -> None:
    def answers(asked: Recipe) -> list[Any]:
        return [q["answers"] for q in qa.samples(asked, {}, "evaluation", 7, folder=tmp_path)]

    assert [""] not in answers(recipe)
    assert [""] in answers(with_threshold(recipe, 0.0))


def outputs_of(labels: dict[str, np.ndarray], null: list[float], best: list[float]) -> dict[str, np.ndarray]:
    """Returns logits by which each window's [CLS] scores `null` and its first context token `best`, in all."""
    windows = [json.loads(str(text)) for text in labels["sample"]]
    logits = np.full((len(windows), len(windows[0]["sequence_ids"])), -50.0)
    for row, window, none, score in zip(logits, windows, null, best, strict=True):
        row[0], row[window["sequence_ids"].index(1)] = none / 2, score / 2
    return {"start_logits": logits, "end_logits": logits}


@pytest.mark.parametrize(
    ("threshold", "null", "expected"),
    [
        (0.0, 5.9, "boat"), (0.0, 6.1, ""), (1.0, 6.9, "boat"), (1.0, 7.1, ""), (-2.0, 4.1, ""),
        (None, 99.0, "boat"),
    ],
)  # fmt: skip
def test_there_is_no_answer_where_cls_scores_above_the_best_by_the_threshold(
    threshold: float | None, null: float, expected: str, recipe: Recipe, checkpoints: dict[str, Path]
) -> None:
    asked = recipe if threshold is None else with_threshold(recipe, threshold)
    sample = {"id": "1", "question": "what?", "context": "boat", "answers": [""]}
    _, labels = qa.encode(checkpoints["bert"], asked, [sample])
    found = qa.predict(outputs_of(labels, [null], [6.0]), labels)
    assert found == [expected] and qa.score(found, labels) == (expected == "")


def test_of_several_windows_the_lowest_score_of_cls_counts(recipe: Recipe, checkpoints: dict[str, Path]) -> None:
    """A window without the answer says that there is none, whatever the others say."""
    _, labels = qa.encode(checkpoints["bert"], with_threshold(recipe, 0.0), [LONG])
    count = len(labels["sample"])
    assert count > 3
    best = [6.0, *[1.0] * (count - 1)]
    assert qa.predict(outputs_of(labels, [5.0, *[99.0] * (count - 1)], best), labels) == ["boat"]
    assert qa.predict(outputs_of(labels, [99.0] * count, best), labels) == [""]


def test_cls_is_judged_only_where_it_decides(recipe: Recipe, checkpoints: dict[str, Path]) -> None:
    logits = {"start_logits": np.zeros((1, 32)), "end_logits": np.zeros((1, 32))}
    sizes = []
    for asked in (recipe, with_threshold(recipe, 0.0)):
        _, labels = qa.encode(checkpoints["bert"], asked, [{**LONG, "context": "boat house"}])
        sizes.append(len(qa.judged(logits, labels)["start_logits"]))
    assert sizes == [2, 3]


def test_both_kinds_of_questions_are_reported(recipe: Recipe, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    asked = with_threshold(recipe, 0.0)
    raw = qa.samples(asked, {}, "evaluation", 7, folder=tmp_path)
    _, labels = qa.encode(checkpoints["bert"], asked, raw)
    found = [q["answers"][0] for q in qa.questions(labels)]
    assert qa.per_class(qa.tally(found, labels), labels) == {"has an answer": 1.0, "has none": 1.0}
    nothing = [""] * 7
    assert qa.per_class(qa.tally(nothing, labels), labels) == {"has an answer": 0.0, "has none": 1.0}
    chance = qa.chance(nothing, labels, qa.tally(nothing, labels))
    assert (
        chance["an empty answer"].mean() == pytest.approx(qa.score(nothing, labels)) and qa.score(nothing, labels) > 0
    )


def test_an_exact_match_has_the_words_of_an_accepted_answer() -> None:
    rows = [{"id": str(i), "question": "?", "context": "c", "start": 0, "answers": a, "offsets": [[0, 0], [0, 7]],
             "sequence_ids": [None, 1]} for i, a in enumerate([["c"], ["d"], ["The C!", "x"]])]  # fmt: skip
    labels = {"sample": np.array([json.dumps(row) for row in rows])}
    logits = {name: np.zeros((3, 2)) for name in ("start_logits", "end_logits")}
    assert qa.further(logits, labels) == {"exact match": pytest.approx(2 / 3)}


@pytest.mark.parametrize("stride", [1, 4, 16])
def test_windows_share_as_many_tokens_as_asked(stride: int, recipe: Recipe, checkpoints: dict[str, Path]) -> None:
    asked = recipe.question_answering.model_copy(update={"stride": stride})
    asked_recipe = recipe.model_copy(update={"question_answering": asked})
    inputs, labels = qa.encode(checkpoints["bert"], asked_recipe, [LONG])
    spans = []
    for text in labels["sample"]:
        window = json.loads(str(text))
        spans.append([tuple(np.add(at, window["start"])) for at, s in
                      zip(window["offsets"], window["sequence_ids"], strict=True) if s == 1])  # fmt: skip
    for one, other in pairwise(spans):
        assert one[-stride:] == other[:stride]
    for name, value in qa.own_encoding(checkpoints["bert"], asked_recipe, [LONG]).items():
        np.testing.assert_array_equal(inputs[name], value, name)


def test_windows_that_hardly_move_are_refused(recipe: Recipe, checkpoints: dict[str, Path]) -> None:
    asked = recipe.question_answering.model_copy(update={"stride": 17})
    with pytest.raises(InputError, match=r"stride = 17 is more than half of shapes\.sequence_length = 32"):
        qa.encode(checkpoints["bert"], recipe.model_copy(update={"question_answering": asked}), [LONG])


# --- the best span of all windows ---


def window(id: str, words: int, before: int = 2, name: str = "w") -> str:
    """Returns the label of a window of so many one-word tokens, behind `before` tokens of the question."""
    texts = [f"{name}{i}" for i in range(words)]
    starts = np.cumsum([0, *(len(text) + 1 for text in texts)]).tolist()
    offsets = [[0, 1]] * before + [[at, at + len(text)] for at, text in zip(starts, texts, strict=False)] + [[0, 0]]
    sequence = [0] * before + [1] * words + [None]
    return json.dumps({"id": id, "context": " ".join(texts), "offsets": offsets, "sequence_ids": sequence})


def answers(windows: list[str], start: dict[tuple[int, int], float], end: dict[tuple[int, int], float]) -> list[str]:
    """Returns the predictions where the logits are 0 but for those at (window, token)."""
    length = max(len(json.loads(text)["offsets"]) for text in windows)
    logits: list[Any] = []
    for places in (start, end):
        made = np.zeros((len(windows), length), np.float32)
        for at, value in places.items():
            made[at] = value
        logits.append(made)
    return qa.predict({"start_logits": logits[0], "end_logits": logits[1]}, {"sample": np.array(windows)})


def test_an_answer_has_thirty_tokens_at_most() -> None:
    whole = answers([window("a", 40)], {(0, 2): 5.0}, {(0, 31): 4.0})
    assert whole == [" ".join(f"w{i}" for i in range(30))]
    assert answers([window("a", 40)], {(0, 2): 5.0}, {(0, 32): 4.0}) == ["w0"], "one of 31 is none: the start alone"


def test_an_answer_ends_where_it_begins_or_later() -> None:
    assert answers([window("a", 5)], {(0, 4): 5.0}, {(0, 4): 4.0}) == ["w2"]
    assert answers([window("a", 5)], {(0, 3): 5.0}, {(0, 5): 4.0}) == ["w1 w2 w3"]
    assert answers([window("a", 5)], {(0, 5): 5.0}, {(0, 3): 4.0}) == ["w3"]
    assert answers([window("a", 5)], {(0, 6): 5.0}, {(0, 2): 6.0}) == ["w0"]


def test_the_question_holds_no_answer() -> None:
    start = {(0, 1): 9.0, (0, 7): 9.0, (0, 3): 1.0}
    end = {(0, 0): 9.0, (0, 7): 9.0, (0, 3): 1.0}
    assert answers([window("a", 5)], start, end) == ["w1"]


def test_a_window_without_context_answers_nothing() -> None:
    empty = json.dumps({"id": "a", "context": "", "offsets": [[0, 1]] * 5, "sequence_ids": [0] * 5})
    assert answers([empty], {(0, 1): 9.0}, {(0, 1): 9.0}) == [""]
    assert answers([empty, window("a", 3)], {(0, 1): 9.0, (1, 3): -1.0}, {(0, 1): 9.0}) == ["w0"]
    assert answers([window("a", 3), empty], {(1, 1): 9.0}, {(1, 1): 9.0}) == ["w0"]


def test_the_better_window_answers_and_of_equals_the_first() -> None:
    two = [window("a", 3), window("a", 3, name="v")]
    assert answers(two, {(0, 3): 1.0, (1, 4): 2.0}, {(0, 3): 1.0, (1, 4): 1.0}) == ["v2"]
    assert answers(two, {(0, 3): 1.0, (1, 4): 1.0}, {(0, 3): 1.0, (1, 4): 1.0}) == ["w1"]
    assert answers(two, {(0, 3): 2.0, (1, 4): 1.0}, {(0, 3): 1.0, (1, 4): 1.0}) == ["w1"]


def test_every_question_has_an_answer_in_the_order_of_their_first_windows() -> None:
    three = [window("a", 2), window("b", 2, name="v"), window("a", 2, name="u")]
    assert answers(three, {(1, 3): 1.0, (2, 3): 1.0}, {(1, 3): 1.0, (2, 3): 1.0}) == ["u1", "v1"]
