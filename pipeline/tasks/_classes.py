"""One class of several per text: accuracy, and what the labels prove.

`label` int64 [N] is the right class, `class_names` [K] what classes are called, `text` what a report shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.tasks import _defaults

if TYPE_CHECKING:
    from pipeline.tasks import Arrays


def predict(outputs: Arrays, labels: Arrays) -> np.ndarray:
    """Returns class indices [N]."""
    return np.asarray(outputs["logits"].argmax(-1))


def score(predictions: np.ndarray, labels: Arrays) -> float:
    return float(tally(predictions, labels).mean())


def tally(predictions: np.ndarray, labels: Arrays) -> np.ndarray:
    """Returns 1 for every text with the right label, 0 for the others [N]."""
    return np.asarray(predictions == labels["label"], dtype=np.float64)


def chance(predictions: np.ndarray, labels: Arrays, own: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the tally of the commonest label as the answer to everything."""
    commonest = int(np.bincount(labels["label"]).argmax())
    return {f"{str(labels['class_names'][commonest])!r} for every text": tally(np.array(commonest), labels)}


def unjudgeable(labels: Arrays) -> str | None:
    """Returns that all texts have the same label, None where they have several."""
    first, *others = np.unique(labels["label"])
    return None if others else f"every text is labelled {str(labels['class_names'][first])!r}"


def unseen(labels: Arrays) -> list[str]:
    """Returns the classes that no text has."""
    return [str(name) for i, name in enumerate(labels["class_names"]) if not (labels["label"] == i).any()]


def per_class(tally: np.ndarray, labels: Arrays) -> dict[str, float]:
    """Returns {class: share of its texts that got it} for the classes that occur."""
    truth = labels["label"]
    return {
        str(name): float(tally[truth == i].mean()) for i, name in enumerate(labels["class_names"]) if (truth == i).any()
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
    return _defaults.differing_first(rows, limit)
