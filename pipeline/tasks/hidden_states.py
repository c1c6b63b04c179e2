"""All hidden states of a base model: what the embeddings and every layer give, for the recipe's task = "hidden-states".

They are judged by the mean over a text's real tokens, layer by layer.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.tasks import Arrays, _defaults, _pooling, _text, _vectors, sentence_embedding
from pipeline.tasks._heads import Head

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

HEADS = (Head("Model", ("hidden_states_*",), asked=True),)
METRIC, AGREEMENT, SAMPLES = _vectors.METRIC, _vectors.AGREEMENT, _vectors.SAMPLES

agreement = _vectors.agreement
chance = _vectors.chance
examples = _vectors.examples
further = _defaults.further
own_encoding = sentence_embedding.own_encoding
samples = sentence_embedding.samples
score = _vectors.score
settings = _defaults.settings
tally = _vectors.tally
unjudgeable = _vectors.unjudgeable
unseen = _defaults.unseen


def encode(folder: Path, recipe: Recipe, samples: list[str]) -> tuple[Arrays, Arrays]:
    inputs = _text.encode(_text.tokenizer(folder, recipe.shapes.sequence_length), samples)
    return inputs, {"text": np.array(samples), "attention_mask": inputs["attention_mask"]}


def _layers(outputs: Arrays) -> list[str]:
    return sorted(outputs, key=lambda name: int(name.rpartition("_")[2]))


def predict(outputs: Arrays, labels: Arrays) -> np.ndarray:
    """Returns the direction of every layer's mean over real tokens [N, layers + 1, H], the embeddings' first."""
    mask = labels["attention_mask"]
    return _vectors.unit(np.stack([_pooling.pool(outputs[name], mask, "mean") for name in _layers(outputs)], axis=1))


def metric(means: np.ndarray) -> np.ndarray:
    """Returns the mean over layers [...] of mean cosines [..., layers + 1]."""
    return np.asarray(means.mean(-1))


def per_class(tally: np.ndarray, labels: Arrays) -> dict[str, float]:
    """Returns {layer: mean cosine}."""
    return {"embeddings" if i == 0 else f"layer {i}": float(x) for i, x in enumerate(tally.mean(0))}


def judged(outputs: Arrays, labels: Arrays) -> Arrays:
    """Returns the hidden states of real tokens [tokens, H]."""
    return {name: value[labels["attention_mask"] != 0] for name, value in outputs.items()}


def reference_labels(outputs: Arrays, labels: Arrays) -> Arrays:
    """Returns the labels that the float model itself defines."""
    return {"embedding": predict(outputs, labels)}


def preprocess(folder: Path, raw: Any, recipe: Recipe) -> tuple[Arrays, Arrays]:
    """Returns engine inputs for a text or a list of texts."""
    return encode(folder, recipe, _text.texts_of(raw))


def postprocess(folder: Path, outputs: Arrays, labels: Arrays) -> list[np.ndarray]:
    """Returns of every text the hidden states of its real tokens [layers + 1, tokens, H]."""
    states = np.stack([outputs[name] for name in _layers(outputs)], axis=1)
    return [text[:, mask != 0] for text, mask in zip(states, labels["attention_mask"], strict=True)]
