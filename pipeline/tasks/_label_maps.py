"""Label maps of logits, which are resized bilinearly first: of an image, or of windows that overlap on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.tasks._masks import kind, nothing

LabelMaps = np.ndarray | Sequence[np.ndarray]  # [N, H, W], or of images of several sizes [H, W] each
Taps = tuple[np.ndarray, np.ndarray, np.ndarray]


def taps(small: int, large: int) -> Taps:
    """Returns, for each of `large` positions, its two neighbours among `small` and the weight of the second.

    Pixel centres lie at halves, as in PyTorch's bilinear interpolation in the training loss.
    """
    at = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    low = np.floor(at).astype(int)
    return low, np.minimum(low + 1, small - 1), (at - low).astype(np.float32)


def blend(x: np.ndarray, where: Taps) -> np.ndarray:
    """Returns x [n, …] interpolated along its first axis, [large, …]."""
    low, high, weight = where
    t = weight.reshape(-1, *[1] * (x.ndim - 1))
    return np.asarray(x[low] * (1 - t) + x[high] * t)


@dataclass(frozen=True)
class Rows:
    """Logits resized bilinearly, a row at a time with the classes innermost: rows[y] is [width, C].

    stretched: resized along the width alone, [h, width, C].
    """

    stretched: np.ndarray
    vertical: Taps

    @classmethod
    def of(cls, logits: np.ndarray, height: int, width: int) -> Rows:
        """Returns the rows of logits [C, h, w] at [height, width]."""
        columns = blend(np.ascontiguousarray(logits.transpose(2, 1, 0), dtype=np.float32), taps(logits.shape[2], width))
        return cls(np.ascontiguousarray(columns.transpose(1, 0, 2)), taps(logits.shape[1], height))

    def __getitem__(self, y: int) -> np.ndarray:
        low, high, weight = (part[y] for part in self.vertical)
        return np.asarray(self.stretched[low] * (1 - weight) + self.stretched[high] * weight)


def label_map(logits: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the class of every pixel, uint8 or uint16 [height, width], of logits [C, h, w] resized bilinearly.

    One row at a time with the classes innermost: 150 classes at 512×512 would be 157 MB at once, and argmax over the
    first axis strides through all of it.
    """
    rows = Rows.of(logits, height, width)
    classes = np.empty((height, width), dtype=kind(len(logits)))
    for y in range(height):
        classes[y] = rows[y].argmax(-1)
    return classes


def blended(
    windows: Sequence[np.ndarray], places: Sequence[tuple[int, int]], window: tuple[int, int], image: tuple[int, int]
) -> np.ndarray:
    """Returns the class of every pixel of an image, uint8 or uint16 [H, W], of the logits of windows on it.

    windows: logits [C, h, w] each; places: top and left; window, image: height and width. As slide_inference of
    mmsegmentation: every window's logits are resized to the window, added where it lies, and divided by the number of
    windows there. A pixel that no window covers has no class (see `_masks.nothing`).
    """
    classes = len(windows[0])
    found = np.empty(image, dtype=kind(classes))
    opened: dict[int, Rows] = {}  # of the windows that a row crosses: at full size all would fill the memory
    for y in range(image[0]):
        total, count = np.zeros((image[1], classes), np.float32), np.zeros((image[1], 1), np.float32)
        for number, (top, left) in enumerate(places):
            if not top <= y < top + window[0]:
                opened.pop(number, None)
                continue
            if number not in opened:
                opened[number] = Rows.of(windows[number], *window)
            total[left : left + window[1]] += opened[number][y - top]
            count[left : left + window[1]] += 1
        covered = (total / np.maximum(count, 1)).argmax(-1)
        found[y] = np.where(count[:, 0] > 0, covered, nothing(found))
    return found
