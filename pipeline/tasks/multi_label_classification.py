"""Multi-label classification: any number of labels per text, each where its probability is above one half."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import InputError
from pipeline.tasks import Arrays, _counts, _defaults, _files, _labelled_texts, _labels, _tables, _text, take
from pipeline.tasks._heads import Head

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

HEADS = (Head("ForSequenceClassification", ("logits",), problem="multi_label_classification"),)
METRIC = "f1"
AGREEMENT = 0.95  # texts with the same labels, every one of them
SAMPLES = {"calibration": 64, "selection": 64, "evaluation": 500}
COLUMNS = ("labels", "label")

further = _defaults.further
judged = _defaults.judged
metric = _counts.micro_f1
own_encoding = _labelled_texts.own_encoding
reference_labels = _defaults.reference_labels
settings = _defaults.settings


def samples(recipe: Recipe, config: dict[str, Any], split: str, count: int, *, folder: Path) -> list[dict[str, Any]]:
    """Returns {text, label} rows; text may be a pair, label has 1 for every class that the text has, else 0."""
    if recipe.data is None:
        raise InputError(
            'a multi-label checkpoint needs labelled texts: give DATA=file.jsonl ({"text": …, "labels": [name, …]}), '
            "or DATA=file.csv with a column of 0 and 1 for every class."
        )
    names = _labels.class_names(config)
    table = _tables.read_table(_files.located(recipe.data), COLUMNS, names)
    hot = hot_labels([row["label"] for row in table], names, recipe.data)
    return take(_labelled_texts.rows(table, hot), split, recipe, SAMPLES)


def hot_labels(labels: Sequence[Any], names: Sequence[str], source: str) -> np.ndarray:
    """Returns 1 for every class that a row has, 0 for the others [rows, K], of lists of all names, of all indices, or
    of a 0 or 1 for every class.

    Raises InputError for a label that the checkpoint lacks, and for lists that could be read in two ways.
    """
    for number, label in enumerate(labels):
        if not isinstance(label, list):
            found = "no labels" if label is None else f"{label!r}"
            raise InputError(f"{source} {_labels.row(number)}: expected a list of labels, found {found}.")
    hot = all(len(row) == len(names) and all(_is_flag(flag) for flag in row) for row in labels)
    listed = all(all(not isinstance(x, float) for x in row) and len({*map(str, row)}) == len(row) for row in labels)
    if hot and listed:
        raise InputError(
            f"{source}: its lists of {len(names)} labels could be classes, or 0 and 1 for every class. Write the names "
            "of classes."
        )
    if hot:
        return np.array([[float(flag) for flag in row] for row in labels]).astype(np.int64)
    places = [number for number, row in enumerate(labels) for _ in row]
    flat = [label for row in labels for label in row]
    indices = _labels.indices(flat, names, source, lambda i: _labels.row(places[i])) if flat else []
    result = np.zeros((len(labels), len(names)), dtype=np.int64)
    result[places, indices] = 1
    return result


def _is_flag(value: Any) -> bool:
    return value in (0, 1, "0", "1", "0.0", "1.0")


def encode(folder: Path, recipe: Recipe, samples: list[dict[str, Any]]) -> tuple[Arrays, Arrays]:
    return _labelled_texts.encode_classes(folder, recipe, samples, _labels.names_in(folder))


def predict(outputs: Arrays, labels: Arrays) -> np.ndarray:
    """Returns 1 for every class that a text gets, 0 for the others [N, K]."""
    return (outputs["logits"] > 0).astype(np.int64)


def score(predictions: np.ndarray, labels: Arrays) -> float:
    """Returns the F1 over all texts and classes, the micro average of scikit-learn."""
    return float(metric(tally(predictions, labels).mean(0)))


def tally(predictions: np.ndarray, labels: Arrays) -> np.ndarray:
    """Returns of every text and class whether it is right, found and expected [N, 3·K]."""
    found, expected = np.broadcast_arrays(predictions, labels["label"])
    counted = np.stack([found * expected, found, expected], axis=-1).astype(np.float64)
    return counted.reshape(len(counted), 3 * found.shape[1])


def chance(predictions: np.ndarray, labels: Arrays, own: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the tallies of every label for all texts, of the commonest one, and of its own of another text."""
    names, counted = labels["class_names"], labels["label"].sum(0)
    commonest = np.arange(len(names)) == counted.argmax()
    return {
        "every label for every text": tally(np.ones(len(names), np.int64), labels),
        f"{str(names[counted.argmax()])!r} for every text": tally(commonest.astype(np.int64), labels),
        "its own labels of another text": tally(np.roll(predictions, 1, axis=0), labels),
    }


def unjudgeable(labels: Arrays) -> str | None:
    """Returns that all texts have the same labels, None where they have others."""
    first, *others = np.unique(labels["label"], axis=0)
    if others:
        return None
    named = [str(name) for name in labels["class_names"][first == 1]]
    return f"every text is labelled {named}" if named else "no text has a label"


def unseen(labels: Arrays) -> list[str]:
    """Returns the classes that no text has."""
    return [str(name) for name, label in zip(labels["class_names"], labels["label"].T, strict=True) if not label.any()]


def per_class(tally: np.ndarray, labels: Arrays) -> dict[str, float]:
    """Returns {class: F1} for the classes that occur."""
    return _counts.per_kind(tally, [str(name) for name in labels["class_names"]])


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the share of texts with the same labels."""
    return float((a == b).all(-1).mean())


def examples(
    inputs: Arrays, labels: Arrays, reference: np.ndarray, engine: np.ndarray, limit: int
) -> list[dict[str, Any]]:
    """Returns texts with their labels and both models', those that differ first."""
    rows = [
        {"text": str(text), "label": _named(y, labels), "float": _named(a, labels), "engine": _named(b, labels)}
        for text, y, a, b in zip(labels["text"], labels["label"], reference, engine, strict=True)
    ]
    return _defaults.differing_first(rows, limit)


def _named(hot: np.ndarray, labels: Arrays) -> str:
    return ", ".join(str(name) for name in labels["class_names"][hot == 1]) or "–"


def preprocess(folder: Path, raw: Any, recipe: Recipe) -> tuple[Arrays, Arrays]:
    """Returns engine inputs for a text, a pair {text, text_pair}, or a list of them."""
    return encode(folder, recipe, [{"text": t, "label": []} for t in _text.texts_or_pairs_of(raw)])


def postprocess(folder: Path, outputs: Arrays, labels: Arrays) -> list[list[str]]:
    """Returns the label names of every text."""
    return [[str(name) for name in labels["class_names"][row == 1]] for row in predict(outputs, labels)]
