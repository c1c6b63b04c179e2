"""Sequence regression: one number per text or per pair of texts, as similarity (STS) and relevance (rerankers) are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import InputError
from pipeline.tasks import Arrays, _defaults, _files, _labelled_texts, _labels, _tables, _text, take
from pipeline.tasks._heads import Head

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

HEADS = (Head("ForSequenceClassification", ("logits",), problem="regression"),)
METRIC = "pearson"
AGREEMENT = 0.95  # pairs of texts in the same order
SAMPLES = {"calibration": 64, "selection": 64, "evaluation": 500}
COLUMNS = ("label", "score", "labels")

judged = _defaults.judged
own_encoding = _labelled_texts.own_encoding
per_class = _defaults.per_class
reference_labels = _defaults.reference_labels
settings = _defaults.settings
unseen = _defaults.unseen


def samples(recipe: Recipe, config: dict[str, Any], split: str, count: int, *, folder: Path) -> list[dict[str, Any]]:
    """Returns {text, label} rows; text may be a pair, label is a number."""
    if recipe.data is None:
        raise InputError(
            "a regression checkpoint needs texts with numbers: give DATA=file.tsv (text, tab, label), DATA=file.csv "
            'or DATA=file.jsonl ({"text": …, "label": 0.5}; pairs {"sentence1": …, "sentence2": …, "label": 0.5}).'
        )
    if len(_labels.class_names(config)) != 1:
        raise InputError(
            f"the checkpoint gives {len(_labels.class_names(config))} numbers for every text; a text has one label."
        )
    table = _tables.read_table(_files.located(recipe.data), COLUMNS)
    numbers = [_number(row["label"], f"{recipe.data} {_labels.row(i)}") for i, row in enumerate(table)]
    return take(_labelled_texts.rows(table, numbers), split, recipe, SAMPLES)


def _number(label: Any, where: str) -> float:
    try:
        value = math.nan if isinstance(label, bool) else float(label)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: label {label!r} is not a number; the checkpoint gives every text one.")
    return value


def encode(folder: Path, recipe: Recipe, samples: list[dict[str, Any]]) -> tuple[Arrays, Arrays]:
    inputs, shown = _labelled_texts.encode(folder, recipe, samples)
    numbers = [repr(float(s["label"])) for s in samples]  # text: they are the data's, not the float model's
    return inputs, {"number": np.array(numbers), **shown}


def predict(outputs: Arrays, labels: Arrays) -> np.ndarray:
    """Returns a number for every text [N]."""
    return np.asarray(outputs["logits"][:, 0])


def _truth(labels: Arrays) -> np.ndarray:
    return labels["number"].astype(np.float64)


def score(predictions: np.ndarray, labels: Arrays) -> float:
    """Returns Pearson's correlation of predictions and labels."""
    return float(metric(tally(predictions, labels).mean(0)))


def tally(predictions: np.ndarray, labels: Arrays) -> np.ndarray:
    """Returns x, y, x², y², x·y of every text [N, 5], both from their means over the texts.

    Correlation is a function of the means of these.
    """
    y = _truth(labels)
    x = np.broadcast_to(np.asarray(predictions, dtype=np.float64), y.shape)
    x, y = x - x.mean(), y - y.mean()
    return np.stack([x, y, x * x, y * y, x * y], axis=1)


def metric(means: np.ndarray) -> np.ndarray:
    """Returns the correlation [...] of mean tallies [..., 5]; 0 where either is the same for all texts."""
    x, y, xx, yy, xy = np.moveaxis(np.asarray(means, dtype=np.float64), -1, 0)
    spread = (xx - x * x) * (yy - y * y)
    root = np.sqrt(np.maximum(spread, 0))
    correlation = np.divide(xy - x * y, root, out=np.zeros_like(root), where=root > 1e-12 * np.sqrt(xx * yy))
    return np.asarray(correlation)


def further(outputs: Arrays, labels: Arrays) -> dict[str, float]:
    """Returns Spearman's correlation, that of the ranks, and the mean absolute error."""
    from scipy.stats import spearmanr

    found, expected = predict(outputs, labels), _truth(labels)
    error = {"mean absolute error": float(np.abs(found - expected).mean())}
    if len(found) < 2 or len(set(found.tolist())) < 2 or len(set(expected.tolist())) < 2:
        return {"spearman": 0.0, **error}
    return {"spearman": float(spearmanr(found, expected).statistic), **error}


def chance(predictions: np.ndarray, labels: Arrays, own: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the tally of one number for all texts, which is correlated with nothing."""
    return {"one number for every text": tally(np.array(0.0), labels)}


def unjudgeable(labels: Arrays) -> str | None:
    """Returns that all texts have the same number, None where they have several."""
    return None if len(set(_truth(labels))) > 1 else f"every text is labelled {_truth(labels)[0]:g}"


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the share of pairs of texts that both put in the same order; 1 for a single text."""
    first, second = (np.sign(x[:, None] - x[None, :]) for x in (a, b))
    pairs = np.triu(np.ones(first.shape, dtype=bool), 1)
    return float((first == second)[pairs].mean()) if pairs.any() else 1.0


def examples(
    inputs: Arrays, labels: Arrays, reference: Sequence[float], engine: Sequence[float], limit: int
) -> list[dict[str, Any]]:
    """Returns the texts whose number moved most."""
    rows = [
        {"text": str(text), "label": f"{y:.4g}", "float": f"{a:.4f}", "engine": f"{b:.4f}"}
        for text, y, a, b in zip(labels["text"], _truth(labels), reference, engine, strict=True)
    ]
    return sorted(rows, key=lambda row: -abs(float(row["float"]) - float(row["engine"])))[:limit]


def preprocess(folder: Path, raw: Any, recipe: Recipe) -> tuple[Arrays, Arrays]:
    """Returns engine inputs for a text, a pair {text, text_pair}, or a list of them."""
    return encode(folder, recipe, [{"text": t, "label": 0.0} for t in _text.texts_or_pairs_of(raw)])


def postprocess(folder: Path, outputs: Arrays, labels: Arrays) -> list[float]:
    """Returns one number per text, as the model gives it."""
    return [float(x) for x in predict(outputs, labels)]
