"""Vectors of texts, or several of each, held against the float model's: it is the truth where there are no labels.

Predictions are unit vectors [N, H], or [N, K, H] for K vectors of a text; `embedding` holds the float model's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pipeline.tasks import Arrays

METRIC = "cosine"  # mean cosine to the float vectors: without labels the float model is the truth
AGREEMENT = 0.9  # nearest neighbours: two almost equally near ones swap after the smallest change
# sentences are short: it takes many to meet the outliers of every channel
SAMPLES = {"calibration": 256, "selection": 128, "evaluation": 256}


def unit(vectors: np.ndarray) -> np.ndarray:
    """Returns vectors [..., H] of length 1; the zero vector has no direction and stays zero, unlike any other."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0))


def score(predictions: np.ndarray, labels: Arrays) -> float:
    """Returns the mean cosine to the float vectors, `labels["embedding"]`."""
    return float(tally(predictions, labels).mean())


def tally(predictions: np.ndarray, labels: Arrays) -> np.ndarray:
    """Returns the cosine of every vector, [N] or [N, K]."""
    return np.asarray((predictions * labels["embedding"]).sum(-1), dtype=np.float64)


def chance(predictions: np.ndarray, labels: Arrays, own: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the tally of one vector for all texts: the direction of the float model's mean vector.

    Where all vectors are nearly equal it is as good as any engine's.
    """
    mean = labels["embedding"].mean(0)
    length = np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)
    return {"one embedding for every text": tally(mean / length, labels)}


def unjudgeable(labels: Arrays) -> str | None:
    """Returns that there is only one text, None where there are several to tell apart."""
    return None if len(labels["text"]) > 1 else "there is one text, and so none to tell it from"


def nearest(vectors: np.ndarray) -> np.ndarray:
    """Returns for every text the index of the most similar other one [N]; of several vectors the cosines add up."""
    flat = vectors.reshape(len(vectors), -1)
    similarity = flat @ flat.T
    np.fill_diagonal(similarity, -np.inf)
    return np.asarray(similarity.argmax(1))


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the share of texts whose nearest neighbour is the same."""
    return float((nearest(a) == nearest(b)).mean())


def examples(
    inputs: Arrays, labels: Arrays, reference: np.ndarray, engine: np.ndarray, limit: int
) -> list[dict[str, Any]]:
    """Returns the texts whose vectors moved most, with both nearest neighbours."""
    cosine = (reference * engine).sum(-1).reshape(len(reference), -1).mean(1)
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
