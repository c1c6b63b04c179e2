"""The mean intersection over union of label maps and masks, and of label maps that need no look at the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.tasks import _windows
from pipeline.tasks._label_maps import LabelMaps
from pipeline.tasks._masks import nothing

if TYPE_CHECKING:
    from pipeline.tasks import Arrays


def masks(labels: Arrays) -> list[np.ndarray]:
    """Returns the mask of every image, [H, W], whether the samples are images or windows on them."""
    if _windows.are_in(labels):
        return _windows.whole(labels["mask"], labels, nothing(labels["mask"]))
    return list(labels["mask"])


def tally(predictions: LabelMaps, labels: Arrays) -> np.ndarray:
    """Returns per image and class how many pixels are both predicted and true, true, and predicted [N, 3·C].

    Ignored pixels do not count.
    """
    classes = len(labels["class_names"])
    rows = np.empty((len(predictions), 3, classes), dtype=np.int64)
    for row, truth, prediction in zip(rows, masks(labels), predictions, strict=True):
        valid = truth != nothing(truth)
        true, predicted = truth[valid], prediction[valid]
        for part, pixels in zip(row, (true[true == predicted], true, predicted), strict=True):
            part[:] = np.bincount(pixels, minlength=classes)
    return rows.reshape(len(rows), -1)


def _iou(tallies: np.ndarray) -> np.ndarray:
    """Returns the intersection over union of every class [..., C], NaN where a class occurs in neither."""
    both, true, predicted = np.split(np.asarray(tallies, dtype=np.float64), 3, axis=-1)
    union = true + predicted - both
    return np.asarray(np.divide(both, union, out=np.full(both.shape, np.nan), where=union > 0))


def metric(tallies: np.ndarray) -> np.ndarray:
    """Returns the mean IoU [...] over the classes that occur, of tallies or their means [..., 3·C]; 0 if none."""
    iou = _iou(tallies)
    occurs = ~np.isnan(iou)
    return np.asarray(np.nansum(iou, -1) / np.maximum(occurs.sum(-1), 1))


def class_iou(predictions: LabelMaps, labels: Arrays) -> np.ndarray:
    """Returns the intersection over union of every class [C], NaN where a class occurs in neither."""
    return _iou(tally(predictions, labels).sum(0))


def score(predictions: LabelMaps, labels: Arrays) -> float:
    """Returns the mean IoU over the classes that occur."""
    return float(metric(tally(predictions, labels).sum(0)))


def per_class(tally: np.ndarray, labels: Arrays) -> dict[str, float]:
    """Returns {class: IoU} for the classes that occur."""
    pairs = zip(labels["class_names"], _iou(tally.sum(0)), strict=True)
    return {str(name): float(value) for name, value in pairs if not np.isnan(value)}


def chance(predictions: LabelMaps, labels: Arrays, own: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the tallies of the commonest class on every pixel, and of the model's own shares of classes at random.

    The latter has each image's expected values: a class with the share q of all predictions hits q of its pixels.
    """
    _, true, predicted = np.split(own, 3, axis=1)  # [N, C]
    pixels = true.sum(1, keepdims=True)
    commonest = int(true.sum(0).argmax())
    constant = np.eye(true.shape[1])[commonest]
    shares = predicted.sum(0) / max(int(pixels.sum()), 1)
    return {
        answer: np.concatenate([true * share, true, pixels * share], axis=1)
        for answer, share in (
            (f"{str(labels['class_names'][commonest])!r} on every pixel", constant),
            ("its own classes at random pixels", shares),
        )
    }


def unjudgeable(labels: Arrays) -> str | None:
    """Returns that the masks hold no class or a single one, None where they hold several."""
    held = _held(labels)
    if not held:
        return f"no pixel of the {len(labels['mask'])} masks is labelled: all are ignored"
    return None if len(held) > 1 else f"every labelled pixel of the masks is {str(labels['class_names'][held[0]])!r}"


def unseen(labels: Arrays) -> list[str]:
    """Returns the classes that no mask holds."""
    held = _held(labels)
    return [str(name) for i, name in enumerate(labels["class_names"]) if i not in held]


def _held(labels: Arrays) -> list[int]:
    """Returns the classes that the masks hold."""
    none = nothing(labels["mask"])
    counts = sum(np.bincount(mask.ravel(), minlength=none + 1) for mask in labels["mask"])
    return [int(i) for i in np.flatnonzero(counts) if i != none]
