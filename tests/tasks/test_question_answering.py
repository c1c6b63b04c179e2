"""The answer that logits mean: the best span of all windows, within the context and thirty tokens."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from pipeline.tasks import question_answering as qa


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
