"""Sequence classification: one label per text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import InputError
from pipeline.tasks import Arrays, _defaults, _files, _labels, _text, take
from pipeline.tasks._heads import Head
from pipeline.tasks._labels import class_names

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

HEADS = (Head("ForSequenceClassification", ("logits",)),)
METRIC = "accuracy"
AGREEMENT = 0.98  # labels
SAMPLES = {"calibration": 64, "selection": 64, "evaluation": 500}

judged = _defaults.judged
metric = _defaults.metric
reference_labels = _defaults.reference_labels
settings = _defaults.settings


def samples(recipe: Recipe, config: dict[str, Any], split: str, count: int, *, folder: Path) -> list[dict[str, Any]]:
    """Returns {text, label} rows; label is a class index. Raises InputError for a label the checkpoint lacks."""
    if recipe.data is None:
        raise InputError(
            "a text-classification checkpoint needs labelled texts: give DATA=file.tsv (text, tab, label), "
            'DATA=file.csv (columns text and label) or DATA=file.jsonl ({"text": …, "label": …}).'
        )
    check(config)
    names, table = class_names(config), _text.read_table(_files.located(recipe.data))
    indices = _labels.indices([row["label"] for row in table], names, recipe.data, _labels.row)
    rows = [{"text": row["text"], "label": index} for row, index in zip(table, indices, strict=True)]
    return take(rows, split, recipe, SAMPLES)


def check(config: dict[str, Any]) -> None:
    """Raises InputError for a head whose answer is not one label of several, as accuracy then says nothing."""
    names, kind = class_names(config), config.get("problem_type")
    if len(names) < 2 or kind not in (None, "single_label_classification"):
        asked = f"problem_type {kind!r}" if kind else f"{len(names)} output"
        raise InputError(f"the checkpoint has {asked}; a text classifier here gives each text one of several labels.")


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
