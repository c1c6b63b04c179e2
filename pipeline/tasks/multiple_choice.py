"""Multiple choice: which of several texts fits a context best; the model sees a context with each, [N, choices, S]."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import InputError
from pipeline.tasks import Arrays, _choices, _classes, _defaults, _files, _text, take
from pipeline.tasks._choices import Question
from pipeline.tasks._heads import Head

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

HEADS = (Head("ForMultipleChoice", ("logits",), axes=("batch", "choices", "sequence")),)
METRIC = "accuracy"
AGREEMENT = 0.95  # choices
SAMPLES = {"calibration": 32, "selection": 32, "evaluation": 250}

agreement = _classes.agreement
further = _defaults.further
judged = _defaults.judged
metric = _defaults.metric
per_class = _defaults.per_class
predict = _classes.predict
reference_labels = _defaults.reference_labels
score = _classes.score
settings = _defaults.settings
tally = _classes.tally
unseen = _defaults.unseen


def samples(recipe: Recipe, config: dict[str, Any], split: str, count: int, *, folder: Path) -> list[Question]:
    """Returns questions, all with as many choices."""
    if recipe.data is None:
        raise InputError(
            "a multiple-choice checkpoint needs questions: give DATA=file.jsonl or DATA=file.csv of "
            f"{_choices.EXPECTED}."
        )
    return take(_choices.read_file(_files.located(recipe.data)), split, recipe, SAMPLES)


def encode(folder: Path, recipe: Recipe, samples: list[Question]) -> tuple[Arrays, Arrays]:
    """Returns inputs [N, choices, S] and labels."""
    tokenizer = _text.tokenizer(folder, recipe.shapes.sequence_length)
    inputs = _text.encode(tokenizer, [pair for one in samples for pair in one.pairs])
    return _by_question(inputs, samples), {
        "label": np.array([one.label for one in samples], dtype=np.int64),
        "text": np.array([one.pairs[0][0] for one in samples]),
        "choices": np.array([list(one.choices) for one in samples]),
    }


def own_encoding(folder: Path, recipe: Recipe, samples: list[Question]) -> Arrays:
    """Returns the inputs that the checkpoint's own tokenizer makes."""
    pairs = [pair for one in samples for pair in one.pairs]
    return _by_question(_text.own_encoding(folder, recipe.shapes.sequence_length, pairs), samples)


def _by_question(inputs: Arrays, samples: list[Question]) -> Arrays:
    return {name: value.reshape(len(samples), -1, value.shape[-1]) for name, value in inputs.items()}


def chance(predictions: np.ndarray, labels: Arrays, own: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the tallies of one place among the choices for all questions: where most are right, and the longest."""
    counted = np.bincount(labels["label"], minlength=labels["choices"].shape[1])
    longest = np.char.str_len(labels["choices"]).argmax(-1)
    return {
        f"choice {int(counted.argmax())} of every question": tally(np.array(counted.argmax()), labels),
        "the longest choice of every question": tally(longest, labels),
    }


def unjudgeable(labels: Arrays) -> str | None:
    """Returns that the same choice is right everywhere, None where others are too."""
    first, *others = np.unique(labels["label"])
    return None if others else f"choice {first} is right of every question"


def examples(
    inputs: Arrays, labels: Arrays, reference: np.ndarray, engine: np.ndarray, limit: int
) -> list[dict[str, Any]]:
    """Returns contexts with the right choice and both models', those that differ first."""
    rows = []
    for text, choices, *chosen in zip(
        labels["text"], labels["choices"], labels["label"], reference, engine, strict=True
    ):
        named = dict(zip(("label", "float", "engine"), (str(choices[i]) for i in chosen), strict=True))
        rows.append({"text": str(text), **named})
    return _defaults.differing_first(rows, limit)


def preprocess(folder: Path, raw: Any, recipe: Recipe) -> tuple[Arrays, Arrays]:
    """Returns engine inputs for a question with its choices, as in a file, or a list of them."""
    given = [raw] if isinstance(raw, dict) else raw
    if not isinstance(given, list | tuple) or not given:
        raise InputError(f"the engine takes a question or a list of them, {_choices.EXPECTED}; found {raw!r:.80}.")
    questions = [_choices.question(entry, f"question {i}", labelled=False) for i, entry in enumerate(given)]
    if len({len(one.choices) for one in questions}) > 1:
        raise InputError("the questions of one call need the same number of choices.")
    return encode(folder, recipe, questions)


def postprocess(folder: Path, outputs: Arrays, labels: Arrays) -> list[dict[str, Any]]:
    """Returns {choice, text} of every question: the number of the best choice, and what it says."""
    found = zip(predict(outputs, labels), labels["choices"], strict=True)
    return [{"choice": int(i), "text": str(choices[i])} for i, choices in found]
