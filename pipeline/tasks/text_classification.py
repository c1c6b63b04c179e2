"""Sequence classification: one label a text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import InputError, near_names
from pipeline.recipe import Recipe
from pipeline.tasks import Arrays, _text, take

METRIC = "accuracy"
AGREEMENT = 0.98  # labels
SAMPLES = {"calibration": 64, "selection": 64, "evaluation": 256}


def class_names(config: dict[str, Any]) -> list[str]:
    """Returns the checkpoint's label names in index order."""
    names = config.get("id2label") or {i: f"LABEL_{i}" for i in range(config.get("num_labels", 2))}
    return [str(names[key]) for key in sorted(names, key=int)]


def samples(recipe: Recipe, config: dict[str, Any], split: str, count: int) -> list[dict[str, Any]]:
    """Returns {text, label} rows; label is a class index. Raises InputError for a label the checkpoint lacks."""
    if recipe.data is None:
        raise InputError(
            "a text-classification checkpoint needs labelled texts: give DATA=file.tsv (text, tab, label) "
            'or DATA=file.jsonl ({"text": …, "label": …}).'
        )
    names = class_names(config)
    rows = [
        {"text": row["text"], "label": _index(row["label"], names, recipe.data, number)}
        for number, row in enumerate(_text.read_table(Path(recipe.data).expanduser()), 1)
    ]
    return take(rows, split, recipe, SAMPLES)


def _index(label: Any, names: list[str], source: str, number: int) -> int:
    if str(label) in names:
        return names.index(str(label))
    if isinstance(label, int | str) and str(label).isdigit() and int(label) < len(names):
        return int(label)
    raise InputError(
        f"{source} row {number}: label {label!r} is not one of the checkpoint's.{near_names(str(label), names)}"
    )


def encode(folder: Path, recipe: Recipe, samples: list[dict[str, Any]]) -> tuple[Arrays, Arrays]:
    tokenizer = _text.tokenizer(folder, recipe.shapes.sequence_length)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    labels = {
        "label": np.array([s["label"] for s in samples], dtype=np.int64),
        "text": np.array([s["text"] for s in samples]),
        "class_names": np.array(class_names(config)),
    }
    return _text.arrays(tokenizer.encode_batch([s["text"] for s in samples])), labels


def predict(outputs: Arrays, labels: Arrays) -> np.ndarray:
    """Returns class indices [N]."""
    return np.asarray(outputs["logits"].argmax(-1))


def score(predictions: np.ndarray, labels: Arrays) -> float:
    return float((predictions == labels["label"]).mean())


def per_class(predictions: np.ndarray, labels: Arrays) -> dict[str, float]:
    """Returns {class: share of its texts that were found} for the classes that occur."""
    truth = labels["label"]
    return {
        str(name): float((predictions[truth == i] == i).mean())
        for i, name in enumerate(labels["class_names"])
        if (truth == i).any()
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
    texts = [raw] if isinstance(raw, str) else list(raw)
    return encode(folder, recipe, [{"text": t, "label": -1} for t in texts])


def postprocess(folder: Path, outputs: Arrays, labels: Arrays) -> list[str]:
    """Returns one label name per text."""
    return [str(labels["class_names"][i]) for i in predict(outputs, labels)]
