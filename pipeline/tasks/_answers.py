"""SQuAD's F1 of answers against accepted ones, and the F1 of answers that need no look at the question."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pipeline.tasks import Arrays

PLACES = 8  # of a context at which chance answers are taken


def normalize(text: str) -> list[str]:
    """Returns SQuAD's words: lower case, without punctuation and articles."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def f1(answer: str, truth: str) -> float:
    """Returns the word-overlap F1 of one answer."""
    words, expected = normalize(answer), normalize(truth)
    if not words or not expected:
        return float(words == expected)
    common = sum((Counter(words) & Counter(expected)).values())
    return 2 * common / (len(words) + len(expected))


def questions(labels: Arrays) -> list[dict[str, Any]]:
    """Returns every question once, in order of first appearance, with what its last window sees."""
    return list({s["id"]: s for s in (json.loads(str(t)) for t in labels["sample"])}.values())


def score(predictions: list[str], labels: Arrays) -> float:
    """Returns the mean over questions of the best F1 over the accepted answers."""
    return float(tally(predictions, labels).mean())


def tally(predictions: list[str], labels: Arrays) -> np.ndarray:
    """Returns the F1 of every question [N]."""
    return _best_f1(predictions, questions(labels))


def _best_f1(answers: Sequence[str], asked: Sequence[dict[str, Any]]) -> np.ndarray:
    pairs = zip(answers, asked, strict=True)
    return np.array([max(f1(answer, truth) for truth in question["answers"]) for answer, question in pairs])


def exact_match(predictions: list[str], labels: Arrays) -> float:
    """Returns the share of questions whose answer has the words of an accepted one, in order."""
    pairs = zip(predictions, questions(labels), strict=True)
    same = [any(normalize(answer) == normalize(x) for x in asked["answers"]) for answer, asked in pairs]
    return float(np.mean(same))


def per_class(tally: np.ndarray, labels: Arrays) -> dict[str, float]:
    """Returns the F1 of questions that have an answer, and of those without, where there are both."""
    without = np.array([question["answers"] == [""] for question in questions(labels)])
    if without.all() or not without.any():
        return {}
    return {"has an answer": float(tally[~without].mean()), "has none": float(tally[without].mean())}


def chance(predictions: list[str], labels: Arrays, own: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the tallies of answers that do not depend on the question: nothing, everything, one for all, any words.

    The last are as many words as the model's own answer has, at PLACES of the context; their mean F1 counts.
    """
    asked, contexts = questions(labels), _contexts(labels)
    truth, own_answer = _commonest(question["answers"][0] for question in asked), _commonest(predictions)
    spans = [_spread(context, len(answer.split())) for context, answer in zip(contexts, predictions, strict=True)]
    return {
        "an empty answer": _best_f1([""] * len(asked), asked),
        "the whole context": _best_f1(contexts, asked),
        f"the answer {truth!r} to everything": _best_f1([truth] * len(asked), asked),
        f"its own answer {own_answer!r} to everything": _best_f1([own_answer] * len(asked), asked),
        "as many words anywhere in the context": np.mean([_best_f1(x, asked) for x in zip(*spans, strict=True)], 0),
    }


def _commonest(texts: Iterable[str]) -> str:
    return Counter(texts).most_common(1)[0][0]


def _spread(context: str, count: int) -> list[str]:
    """Returns `count` consecutive words (at least one) at each of PLACES evenly spread places of a context."""
    words = context.split()
    starts = np.linspace(0, max(len(words) - count, 0), PLACES).astype(int)
    return [" ".join(words[start : start + max(count, 1)]) for start in starts]


def _contexts(labels: Arrays) -> list[str]:
    """Returns what the model sees of every question's context, joined from its windows."""
    parts: dict[str, list[str]] = {}
    ends: dict[str, int] = {}
    for sample in (json.loads(str(text)) for text in labels["sample"]):
        name, start, part = sample["id"], sample["start"], sample["context"]
        parts.setdefault(name, []).append(part[max(0, ends.get(name, 0) - start) :])
        ends[name] = start + len(part)
    return ["".join(pieces) for pieces in parts.values()]


def unjudgeable(labels: Arrays) -> str | None:
    """Returns that all contexts are empty or one answer fits all questions, None where answers have to be found."""
    if not any(context.strip() for context in _contexts(labels)):
        return "every context is empty"
    asked = questions(labels)
    answer = asked[0]["answers"][0]
    same = all(answer in question["answers"] for question in asked)
    return f"{answer!r} answers all {len(asked)} questions" if same and len(asked) > 1 else None
