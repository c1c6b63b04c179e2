"""Sequence classification: one label per text, or per pair of texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import InputError
from pipeline.tasks import Arrays, _classes, _defaults, _files, _labels, _tables, _text, take
from pipeline.tasks._heads import Head
from pipeline.tasks._labels import class_names

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

HEADS = (Head("ForSequenceClassification", ("logits",)),)
METRIC = "accuracy"
AGREEMENT = 0.98  # labels
SAMPLES = {"calibration": 64, "selection": 64, "evaluation": 500}

agreement = _classes.agreement
chance = _classes.chance
examples = _classes.examples
further = _defaults.further
judged = _defaults.judged
metric = _defaults.metric
per_class = _classes.per_class
predict = _classes.predict
score = _classes.score
tally = _classes.tally
unjudgeable = _classes.unjudgeable
unseen = _classes.unseen
reference_labels = _defaults.reference_labels
settings = _defaults.settings


def samples(recipe: Recipe, config: dict[str, Any], split: str, count: int, *, folder: Path) -> list[dict[str, Any]]:
    """Returns {text, label} rows; text may be a pair, label is a class index.

    Raises InputError for a label the checkpoint lacks.
    """
    if recipe.data is None:
        raise InputError(
            "a text-classification checkpoint needs labelled texts: give DATA=file.tsv (text, tab, label), "
            'DATA=file.csv (columns text and label) or DATA=file.jsonl ({"text": …, "label": …}).'
        )
    check(config)
    names, table = class_names(config), _tables.read_table(_files.located(recipe.data))
    indices = _labels.indices([row["label"] for row in table], names, recipe.data, _labels.row)
    rows = [{"text": _tables.text_of(row), "label": index} for row, index in zip(table, indices, strict=True)]
    return take(rows, split, recipe, SAMPLES)


def check(config: dict[str, Any]) -> None:
    """Raises InputError for a head whose answer is not one label of several, as accuracy then says nothing.

    One output without a problem_type, a number, and several labels a text are tasks of their own.
    """
    names, kind = class_names(config), config.get("problem_type")
    if len(names) < 2 or kind not in (None, "single_label_classification"):
        asked = f"problem_type {kind!r}" if kind else f"{len(names)} output"
        raise InputError(f"the checkpoint has {asked}; a text classifier here gives each text one of several labels.")


def encode(folder: Path, recipe: Recipe, samples: list[dict[str, Any]]) -> tuple[Arrays, Arrays]:
    inputs = _text.encode(_text.tokenizer(folder, recipe.shapes.sequence_length), [s["text"] for s in samples])
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    labels = {
        "label": np.array([s["label"] for s in samples], dtype=np.int64),
        "text": np.array([_text.shown(s["text"]) for s in samples]),
        "class_names": np.array(class_names(config)),
    }
    return inputs, labels


def own_encoding(folder: Path, recipe: Recipe, samples: list[dict[str, Any]]) -> Arrays:
    """Returns the inputs that the checkpoint's own tokenizer makes."""
    return _text.own_encoding(folder, recipe.shapes.sequence_length, [s["text"] for s in samples])


def preprocess(folder: Path, raw: Any, recipe: Recipe) -> tuple[Arrays, Arrays]:
    """Returns engine inputs for a text, a pair {text, text_pair}, or a list of them."""
    return encode(folder, recipe, [{"text": t, "label": -1} for t in _text.texts_or_pairs_of(raw)])


def postprocess(folder: Path, outputs: Arrays, labels: Arrays) -> list[str]:
    """Returns one label name per text."""
    return [str(labels["class_names"][i]) for i in predict(outputs, labels)]
