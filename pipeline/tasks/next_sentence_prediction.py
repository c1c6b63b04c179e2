"""Next sentence prediction (Devlin et al. 2018, arXiv:1810.04805): whether a sentence follows another.

Class 0 is that it does, as in BERT's own training data.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import InputError
from pipeline.tasks import Arrays, _classes, _defaults, _entries, _files, _labelled_texts, _labels, _tables, _text, take
from pipeline.tasks._heads import Head

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

HEADS = (Head("ForNextSentencePrediction", ("logits",)),)
METRIC = "accuracy"
AGREEMENT = 0.98  # pairs
SAMPLES = {"calibration": 64, "selection": 64, "evaluation": 500}
CLASSES = ("follows", "does not follow")

agreement = _classes.agreement
chance = _classes.chance
examples = _classes.examples
further = _defaults.further
judged = _defaults.judged
metric = _defaults.metric
own_encoding = _labelled_texts.own_encoding
per_class = _classes.per_class
predict = _classes.predict
reference_labels = _defaults.reference_labels
score = _classes.score
settings = _defaults.settings
tally = _classes.tally
unjudgeable = _classes.unjudgeable
unseen = _classes.unseen


def samples(recipe: Recipe, config: dict[str, Any], split: str, count: int, *, folder: Path) -> list[dict[str, Any]]:
    """Returns {text, label} rows; text is a pair, label an index of CLASSES.

    From a table of pairs with labels 0 and 1, from a text of documents (see `documents`) or from generated passages,
    whose pairs are drawn by the recipe's seed.
    """
    if recipe.data is None:
        return drawn(_text.passages(split, count), recipe.seed, "the generator")[:count]
    path = _files.located(recipe.data)
    content = _files.read_text(path)
    if not _entries.is_json(path, content) and path.suffix.lower() not in (".csv", ".tsv"):
        return take(drawn(documents(content), recipe.seed, _files.shown(path)), split, recipe, SAMPLES)
    table = _tables.read_table(path)
    if "pair" not in table[0]:
        raise InputError(f"data {_files.shown(path)} has one text a row; a pair of sentences is needed.")
    indices = _labels.indices([row["label"] for row in table], CLASSES, recipe.data, _labels.row)
    return take(_labelled_texts.rows(table, indices), split, recipe, SAMPLES)


def documents(content: str) -> list[list[str]]:
    """Returns the sentences of every document: one a line, a blank line between documents, as BERT was trained with."""
    found: list[list[str]] = [[]]
    for line in content.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if line.strip():
            found[-1].append(line.strip())
        elif found[-1]:
            found.append([])
    return [sentences for sentences in found if sentences]


def drawn(texts: Sequence[Sequence[str]], seed: int, source: str) -> list[dict[str, Any]]:
    """Returns a row for every two sentences in a row: one half as they are, the others' second from another document.

    Raises InputError for documents of which no such rows can be made.
    """
    if len(texts) < 2 or not any(len(sentences) > 1 for sentences in texts):
        raise InputError(
            f"data {source} has {len(texts)} documents; at least 2 are needed, with a sentence a line and a blank line "
            "between documents: a sentence that does not follow is taken from another one."
        )
    rng = np.random.default_rng(seed)
    rows = []
    for number, sentences in enumerate(texts):
        for first, second in pairwise(sentences):
            label = int(rng.integers(2))
            if label:
                other = texts[(number + int(rng.integers(1, len(texts)))) % len(texts)]
                second = other[int(rng.integers(len(other)))]
            rows.append({"text": (first, second), "label": label})
    return rows


def encode(folder: Path, recipe: Recipe, samples: list[dict[str, Any]]) -> tuple[Arrays, Arrays]:
    return _labelled_texts.encode_classes(folder, recipe, samples, CLASSES)


def preprocess(folder: Path, raw: Any, recipe: Recipe) -> tuple[Arrays, Arrays]:
    """Returns engine inputs for a pair {text, text_pair} or a list of them."""
    texts = _text.texts_or_pairs_of(raw)
    if alone := [text for text in texts if isinstance(text, str)]:
        raise InputError(f'the engine takes pairs {{"text": …, "text_pair": …}}, found the text {alone[0][:80]!r}.')
    return encode(folder, recipe, [{"text": pair, "label": -1} for pair in texts])


def postprocess(folder: Path, outputs: Arrays, labels: Arrays) -> list[str]:
    """Returns 'follows' or 'does not follow' for every pair."""
    return [CLASSES[i] for i in predict(outputs, labels)]
