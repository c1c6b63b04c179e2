"""Sentence embedding: the last hidden state, pooled as the checkpoint says and scaled to length 1.

Sentence-BERT (arXiv:1908.10084); without a pooling of its own a checkpoint gives the mean of real tokens.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.tasks import Arrays, _defaults, _files, _pooling, _tables, _text, _vectors, take
from pipeline.tasks._heads import Head

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

HEADS = (Head("Model", ("last_hidden_state",)),)
METRIC, AGREEMENT, SAMPLES = _vectors.METRIC, _vectors.AGREEMENT, _vectors.SAMPLES

agreement = _vectors.agreement
chance = _vectors.chance
examples = _vectors.examples
further = _defaults.further
metric = _defaults.metric
per_class = _defaults.per_class
nearest = _vectors.nearest
score = _vectors.score
tally = _vectors.tally
unjudgeable = _vectors.unjudgeable
unseen = _defaults.unseen


def samples(recipe: Recipe, config: dict[str, Any], split: str, count: int, *, folder: Path) -> list[str]:
    """Returns texts, from a file of labelled text (labels are ignored) or from the generated passages."""
    if recipe.data is None:
        return _text.sentences(split, count)
    texts = list(dict.fromkeys(_tables.texts_of(_tables.read_table(_files.located(recipe.data)))))
    return take(texts, split, recipe, SAMPLES)


def encode(folder: Path, recipe: Recipe, samples: list[str]) -> tuple[Arrays, Arrays]:
    inputs = _text.encode(_text.tokenizer(folder, recipe.shapes.sequence_length), samples)
    pooling = np.array([_pooling.mode(folder)])
    return inputs, {"text": np.array(samples), "attention_mask": inputs["attention_mask"], "pooling": pooling}


def settings(folder: Path) -> dict[str, str]:
    """Returns {file: content} for the artifact folder: how the checkpoint pools."""
    return {_pooling.FILE: json.dumps({"mode": _pooling.of_checkpoint(folder)})}


def own_encoding(folder: Path, recipe: Recipe, samples: list[str]) -> Arrays:
    """Returns the inputs that the checkpoint's own tokenizer makes."""
    return _text.own_encoding(folder, recipe.shapes.sequence_length, samples)


def predict(outputs: Arrays, labels: Arrays) -> np.ndarray:
    """Returns unit vectors [N, H]; the zero vector has no direction and stays zero, unlike any other."""
    pooled = _pooling.pool(outputs["last_hidden_state"], labels["attention_mask"], str(labels["pooling"][0]))
    return _vectors.unit(pooled)


def judged(outputs: Arrays, labels: Arrays) -> Arrays:
    """Returns the hidden states of real tokens [tokens, H], or of first tokens [N, H] where only those are pooled."""
    if labels["pooling"][0] == "cls":
        return {"last_hidden_state": outputs["last_hidden_state"][:, 0]}
    return {"last_hidden_state": outputs["last_hidden_state"][labels["attention_mask"] != 0]}


def reference_labels(outputs: Arrays, labels: Arrays) -> Arrays:
    """Returns the labels that the float model itself defines."""
    return {"embedding": predict(outputs, labels)}


def preprocess(folder: Path, raw: Any, recipe: Recipe) -> tuple[Arrays, Arrays]:
    """Returns engine inputs for a text or a list of texts."""
    return encode(folder, recipe, _text.texts_of(raw))


def postprocess(folder: Path, outputs: Arrays, labels: Arrays) -> np.ndarray:
    """Returns one unit vector per text [N, H]."""
    return predict(outputs, labels)
