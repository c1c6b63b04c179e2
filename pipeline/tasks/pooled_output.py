"""The pooled output of a base model, its pooler's dense layer on the first token, for task = "pooled-output"."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.tasks import Arrays, _defaults, _text, _vectors, sentence_embedding
from pipeline.tasks._heads import Head

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

HEADS = (Head("Model", ("pooler_output",), asked=True),)
METRIC, AGREEMENT, SAMPLES = _vectors.METRIC, _vectors.AGREEMENT, _vectors.SAMPLES

agreement = _vectors.agreement
chance = _vectors.chance
examples = _vectors.examples
further = _defaults.further
judged = _defaults.judged
metric = _defaults.metric
own_encoding = sentence_embedding.own_encoding
per_class = _defaults.per_class
samples = sentence_embedding.samples
score = _vectors.score
settings = _defaults.settings
tally = _vectors.tally
unjudgeable = _vectors.unjudgeable
unseen = _defaults.unseen


def encode(folder: Path, recipe: Recipe, samples: list[str]) -> tuple[Arrays, Arrays]:
    inputs = _text.encode(_text.tokenizer(folder, recipe.shapes.sequence_length), samples)
    return inputs, {"text": np.array(samples)}


def predict(outputs: Arrays, labels: Arrays) -> np.ndarray:
    """Returns the direction of every text's pooled output [N, H]."""
    return _vectors.unit(outputs["pooler_output"])


def reference_labels(outputs: Arrays, labels: Arrays) -> Arrays:
    """Returns the labels that the float model itself defines."""
    return {"embedding": predict(outputs, labels)}


def preprocess(folder: Path, raw: Any, recipe: Recipe) -> tuple[Arrays, Arrays]:
    """Returns engine inputs for a text or a list of texts."""
    return encode(folder, recipe, _text.texts_of(raw))


def postprocess(folder: Path, outputs: Arrays, labels: Arrays) -> np.ndarray:
    """Returns the pooled output of every text as the model gives it [N, H]."""
    return outputs["pooler_output"]
