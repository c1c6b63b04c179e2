"""Sentence embedding: the last hidden state, pooled as the checkpoint says and scaled to length 1.

Sentence-BERT (arXiv:1908.10084); without a pooling of its own a checkpoint gives the mean of real tokens.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.tasks import Arrays, _defaults, _files, _pooling, _tables, _text, take
from pipeline.tasks._heads import Head

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

HEADS = (Head("Model", ("last_hidden_state",)),)
METRIC = "cosine"  # mean cosine to the float embeddings: without labels the float model is the truth
AGREEMENT = 0.9  # nearest neighbours: two almost equally near ones swap after the smallest change
# sentences are short: it takes many to meet the outliers of every channel
SAMPLES = {"calibration": 256, "selection": 128, "evaluation": 256}

further = _defaults.further
metric = _defaults.metric
per_class = _defaults.per_class
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
    length = np.linalg.norm(pooled, axis=1, keepdims=True)
    return np.asarray(np.divide(pooled, length, out=np.zeros_like(pooled), where=length > 0))


def judged(outputs: Arrays, labels: Arrays) -> Arrays:
    """Returns the hidden states of real tokens [tokens, H], or of first tokens [N, H] where only those are pooled."""
    if labels["pooling"][0] == "cls":
        return {"last_hidden_state": outputs["last_hidden_state"][:, 0]}
    return {"last_hidden_state": outputs["last_hidden_state"][labels["attention_mask"] != 0]}


def reference_labels(outputs: Arrays, labels: Arrays) -> Arrays:
    """Returns the labels that the float model itself defines."""
    return {"embedding": predict(outputs, labels)}


def score(predictions: np.ndarray, labels: Arrays) -> float:
    """Returns the mean cosine to the float embeddings, `labels["embedding"]` [N, H]."""
    return float(tally(predictions, labels).mean())


def tally(predictions: np.ndarray, labels: Arrays) -> np.ndarray:
    """Returns the cosine of every sentence [N]."""
    return np.asarray((predictions * labels["embedding"]).sum(1), dtype=np.float64)


def chance(predictions: np.ndarray, labels: Arrays, own: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the tally of one embedding for all texts: the direction of the float model's mean embedding.

    Where all embeddings are nearly equal it is as good as any engine's.
    """
    mean = labels["embedding"].mean(0)
    return {"one embedding for every text": tally(mean / max(float(np.linalg.norm(mean)), 1e-12), labels)}


def unjudgeable(labels: Arrays) -> str | None:
    """Returns that there is only one text, None where there are several to tell apart."""
    return None if len(labels["text"]) > 1 else "there is one text, and so none to tell it from"


def nearest(embeddings: np.ndarray) -> np.ndarray:
    """Returns for every sentence the index of the most similar other one [N]."""
    similarity = embeddings @ embeddings.T
    np.fill_diagonal(similarity, -np.inf)
    return np.asarray(similarity.argmax(1))


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the share of sentences whose nearest neighbour is the same."""
    return float((nearest(a) == nearest(b)).mean())


def examples(
    inputs: Arrays, labels: Arrays, reference: np.ndarray, engine: np.ndarray, limit: int
) -> list[dict[str, Any]]:
    """Returns the sentences whose embedding moved most, with both nearest neighbours."""
    cosine = (reference * engine).sum(1)
    a, b, texts = nearest(reference), nearest(engine), labels["text"]
    return [
        {
            "text": str(texts[i]),
            "cosine": float(cosine[i]),
            "float_neighbour": str(texts[a[i]]),
            "engine_neighbour": str(texts[b[i]]),
        }
        for i in np.argsort(cosine)[:limit]
    ]


def preprocess(folder: Path, raw: Any, recipe: Recipe) -> tuple[Arrays, Arrays]:
    """Returns engine inputs for a text or a list of texts."""
    return encode(folder, recipe, _text.texts_of(raw))


def postprocess(folder: Path, outputs: Arrays, labels: Arrays) -> np.ndarray:
    """Returns one unit vector per text [N, H]."""
    return predict(outputs, labels)
