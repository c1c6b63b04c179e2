"""Sliding-window inference: an engine of one size on images that are larger, as mmsegmentation's slide mode.

Windows of the engine's size lie on the image from the top left, a stride apart; the last of each row and column is
moved back so that it ends with the image. The published evaluation of SegFormer on Cityscapes is of this kind (Xie et
al. 2021, section 4.1: windows of 1024×1024).

A window is a sample here: the engine is calibrated and checked on what it will see. Which image a window is of, and
where it lies, goes with it, and predictions and scores are of whole images again:

    mask [N, h, w]     its part of the mask              image [N]       a number that no other image has
    place [N, 2]       its top and left                  size [N, 2]     height and width of its image
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.errors import InputError
from pipeline.tasks import _label_maps

if TYPE_CHECKING:
    from pipeline.tasks import Arrays

Size = tuple[int, int]  # height and width


@dataclass(frozen=True)
class Slide:
    """Windows of one size, a stride apart."""

    window: Size
    stride: Size

    def places(self, image: Size) -> list[Size]:
        """Returns (top, left) of every window on an image, by rows. ValueError for an image smaller than a window."""
        if any(side < least for side, least in zip(image, self.window, strict=True)):
            raise ValueError(f"{image[1]}×{image[0]} is smaller than a window of {self.window[1]}×{self.window[0]}")
        tops, lefts = (
            [min(step * stride, side - window) for step in range(-(-(side - window) // stride) + 1)]
            for side, window, stride in zip(image, self.window, self.stride, strict=True)
        )
        return [(top, left) for top in tops for left in lefts]

    def require(self, image: Size, name: str) -> None:
        """Raises InputError for an image that is smaller than a window."""
        try:
            self.places(image)
        except ValueError as error:
            raise InputError(
                f"{name}: {error} (width×height), and with shapes.window_stride an image keeps its size. Leave it out, "
                "and images are resized; or take a smaller shapes.image_size."
            ) from error

    def cut(self, samples: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[tuple[np.ndarray, Part]]:
        """Yields every window of images [H, W, 3] and masks [H, W]: its part of the image [h, w, 3], and all else.

        Raises InputError for an image that is smaller than a window.
        """
        for number, (image, mask) in enumerate(samples):
            size = image.shape[0], image.shape[1]
            self.require(size, f"image {number + 1}")
            known = _number(number, image, mask)
            for top, left in self.places(size):
                inside = slice(top, top + self.window[0]), slice(left, left + self.window[1])
                yield image[inside], Part(mask[inside].copy(), known, (top, left), size)


class Part(NamedTuple):
    """What is told of a window beside its pixels; see the top of this file."""

    mask: np.ndarray
    image: int
    place: Size
    size: Size


def _number(position: int, image: np.ndarray, mask: np.ndarray) -> int:
    """Returns a number for an image: of its bytes, as samples are encoded a few at a time, each time counted anew."""
    digest = hashlib.sha256(f"{position} {image.shape}".encode())
    for part in (image, mask):
        digest.update(part.tobytes())
    return int.from_bytes(digest.digest()[:8], "big", signed=True)


def labels(parts: Sequence[Part]) -> Arrays:
    """Returns the labels of windows, first axis N."""
    return {name: np.stack([np.asarray(getattr(part, name)) for part in parts]) for name in Part._fields}


def are_in(labels: Arrays) -> bool:
    """Returns whether the samples of these labels are windows."""
    return "place" in labels


def label_maps(logits: np.ndarray, labels: Arrays) -> list[np.ndarray]:
    """Returns the label map [H, W] of every image that has windows among these; logits: [N, C, h, w]."""
    window = labels["mask"].shape[1:]
    return [
        _label_maps.blended([logits[i] for i in rows], places, (window[0], window[1]), size)
        for rows, places, size in _by_image(labels)
    ]


def whole(parts: np.ndarray, labels: Arrays, missing: float) -> list[np.ndarray]:
    """Returns images [H, W, …] of their windows [N, h, w, …], with `missing` where none of these windows lies."""
    images = []
    for rows, places, size in _by_image(labels):
        image = np.full((*size, *parts.shape[3:]), missing, parts.dtype)
        for row, (top, left) in zip(rows, places, strict=True):
            image[top : top + parts.shape[1], left : left + parts.shape[2]] = parts[row]
        images.append(image)
    return images


def _by_image(labels: Arrays) -> Iterator[tuple[list[int], list[Size], Size]]:
    """Yields (rows, their places, the image's size) of every image, in the order of their first windows."""
    for number in dict.fromkeys(labels["image"].tolist()):
        rows = np.flatnonzero(labels["image"] == number).tolist()
        height, width = labels["size"][rows[0]].tolist()
        yield rows, [(int(top), int(left)) for top, left in labels["place"][rows]], (height, width)
