"""Sequence classification: one label per text, or per pair of texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import InputError
from pipeline.tasks import Arrays, _classes, _defaults, _files, _labelled_texts, _labels, _tables, _text, take
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
own_encoding = _labelled_texts.own_encoding
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
    return take(_labelled_texts.rows(table, indices), split, recipe, SAMPLES)


def check(config: dict[str, Any]) -> None:
    """Raises InputError for a head whose answer is not one label of several, as accuracy then says nothing.

    One output without a problem_type, a number, and several labels a text are tasks of their own.
    """
    _labels.require_one_of_several(config, "a text classifier here gives each text one of several labels")


def encode(folder: Path, recipe: Recipe, samples: list[dict[str, Any]]) -> tuple[Arrays, Arrays]:
    return _labelled_texts.encode_classes(folder, recipe, samples, _labels.names_in(folder))


def preprocess(folder: Path, raw: Any, recipe: Recipe) -> tuple[Arrays, Arrays]:
    """Returns engine inputs for a text, a pair {text, text_pair}, or a list of them."""
    return encode(folder, recipe, [{"text": t, "label": -1} for t in _text.texts_or_pairs_of(raw)])


def postprocess(folder: Path, outputs: Arrays, labels: Arrays) -> list[str]:
    """Returns one label name per text."""
    return [str(labels["class_names"][i]) for i in predict(outputs, labels)]
