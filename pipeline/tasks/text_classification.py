"""Sequence classification: one label per text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import InputError, near_names
from pipeline.tasks import Arrays, _defaults, _files, _text, take

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

METRIC = "accuracy"
AGREEMENT = 0.98  # labels
SAMPLES = {"calibration": 64, "selection": 64, "evaluation": 500}

judged = _defaults.judged
metric = _defaults.metric
reference_labels = _defaults.reference_labels
settings = _defaults.settings


def class_names(config: dict[str, Any]) -> list[str]:
    """Returns the checkpoint's label names in index order."""
    names = config.get("id2label") or {i: f"LABEL_{i}" for i in range(config.get("num_labels", 2))}
    return [str(names[key]) for key in sorted(names, key=int)]


def samples(recipe: Recipe, config: dict[str, Any], split: str, count: int, *, folder: Path) -> list[dict[str, Any]]:
    """Returns {text, label} rows; label is a class index. Raises InputError for a label the checkpoint lacks."""
    if recipe.data is None:
        raise InputError(
            "a text-classification checkpoint needs labelled texts: give DATA=file.tsv (text, tab, label), "
            'DATA=file.csv (columns text and label) or DATA=file.jsonl ({"text": …, "label": …}).'
        )
    check(config)
    names, table = class_names(config), _text.read_table(_files.located(recipe.data))
    indices = _indices([row["label"] for row in table], names, recipe.data)
    rows = [{"text": row["text"], "label": index} for row, index in zip(table, indices, strict=True)]
    return take(rows, split, recipe, SAMPLES)


def check(config: dict[str, Any]) -> None:
    """Raises InputError for a head whose answer is not one label of several, as accuracy then says nothing."""
    names, kind = class_names(config), config.get("problem_type")
    if len(names) < 2 or kind not in (None, "single_label_classification"):
        asked = f"problem_type {kind!r}" if kind else f"{len(names)} output"
        raise InputError(f"the checkpoint has {asked}; a text classifier here gives each text one of several labels.")


def _indices(labels: list[Any], names: list[str], source: str) -> list[int]:
    """Returns the class indices of a file's labels, all names or all indices; a number in JSON is an index.

    Raises InputError for a label that is neither, and for labels that could be either and differ in meaning.
    """
    by_name = {name: index for index, name in enumerate(names)}
    as_name = [by_name.get(label) if isinstance(label, str) else None for label in labels]
    as_index = [_index(label, len(names)) for label in labels]
    whole = [indices for indices in (as_name, as_index) if None not in indices]
    if len(whole) == 2 and as_name != as_index:
        raise InputError(
            f"{source}: the labels ({', '.join(sorted(set(labels))[:4])}) are names of the checkpoint's classes and "
            'also indices of others. Use JSONL, where 1 is an index and "1" a name.'
        )
    if whole:
        return [index for index in whole[0] if index is not None]
    neither = [i for i, pair in enumerate(zip(as_name, as_index, strict=True)) if pair == (None, None)]
    number = (neither or [as_name.index(None)])[0]
    raise InputError(
        f"{source} row {number + 1}: label {labels[number]!r} is not one of the checkpoint's."
        f"{near_names(str(labels[number]), names)}"
    )


def _index(label: Any, classes: int) -> int | None:
    """Returns a label as an index, None where it is none."""
    if isinstance(label, bool) or not isinstance(label, int | str) or not re.fullmatch("[0-9]{1,9}", str(label)):
        return None
    return int(label) if int(label) < classes else None


def encode(folder: Path, recipe: Recipe, samples: list[dict[str, Any]]) -> tuple[Arrays, Arrays]:
    tokenizer = _text.tokenizer(folder, recipe.shapes.sequence_length)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    labels = {
        "label": np.array([s["label"] for s in samples], dtype=np.int64),
        "text": np.array([s["text"] for s in samples]),
        "class_names": np.array(class_names(config)),
    }
    return _text.encode(tokenizer, [s["text"] for s in samples]), labels


def own_encoding(folder: Path, recipe: Recipe, samples: list[dict[str, Any]]) -> Arrays:
    """Returns the inputs that the checkpoint's own tokenizer makes."""
    return _text.own_encoding(folder, recipe.shapes.sequence_length, [s["text"] for s in samples])


def predict(outputs: Arrays, labels: Arrays) -> np.ndarray:
    """Returns class indices [N]."""
    return np.asarray(outputs["logits"].argmax(-1))


def score(predictions: np.ndarray, labels: Arrays) -> float:
    return float(tally(predictions, labels).mean())


def tally(predictions: np.ndarray, labels: Arrays) -> np.ndarray:
    """Returns 1 for every text with the right label, 0 for the others [N]."""
    return np.asarray(predictions == labels["label"], dtype=np.float64)


def chance(predictions: np.ndarray, labels: Arrays, own: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the tally of the commonest label as the answer to everything."""
    commonest = int(np.bincount(labels["label"]).argmax())
    return {f"{str(labels['class_names'][commonest])!r} for every text": tally(np.array(commonest), labels)}


def unjudgeable(labels: Arrays) -> str | None:
    """Returns that all texts have the same label, None where they have several."""
    first, *others = np.unique(labels["label"])
    return None if others else f"every text is labelled {str(labels['class_names'][first])!r}"


def unseen(labels: Arrays) -> list[str]:
    """Returns the classes that no text has."""
    return [str(name) for i, name in enumerate(labels["class_names"]) if not (labels["label"] == i).any()]


def per_class(tally: np.ndarray, labels: Arrays) -> dict[str, float]:
    """Returns {class: share of its texts that got it} for the classes that occur."""
    truth = labels["label"]
    return {
        str(name): float(tally[truth == i].mean()) for i, name in enumerate(labels["class_names"]) if (truth == i).any()
    }


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    return float((a == b).mean())


def examples(
    inputs: Arrays, labels: Arrays, reference: np.ndarray, engine: np.ndarray, limit: int
) -> list[dict[str, Any]]:
    names = labels["class_names"]
    rows = [
        {"text": str(t), "label": str(names[y]), "float": str(names[a]), "engine": str(names[b])}
        for t, y, a, b in zip(labels["text"], labels["label"], reference, engine, strict=True)
    ]
    return sorted(rows, key=lambda row: row["float"] == row["engine"])[:limit]


def preprocess(folder: Path, raw: Any, recipe: Recipe) -> tuple[Arrays, Arrays]:
    """Returns engine inputs for a text or a list of texts."""
    return encode(folder, recipe, [{"text": t, "label": -1} for t in _text.texts_of(raw)])


def postprocess(folder: Path, outputs: Arrays, labels: Arrays) -> list[str]:
    """Returns one label name per text."""
    return [str(labels["class_names"][i]) for i in predict(outputs, labels)]
