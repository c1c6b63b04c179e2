"""Semantic segmentation: one class per pixel, scored by the mean intersection over union."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from pipeline.errors import InputError, near_names
from pipeline.tasks import Arrays, _defaults, _files, _image_processing, _images, _iou, _masks, take
from pipeline.tasks._files import shown
from pipeline.tasks._labels import class_names
from pipeline.tasks._masks import Meaning

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

log = logging.getLogger(__name__)

METRIC = "miou"
AGREEMENT = 0.99  # pixels
SAMPLES = {"calibration": 32, "selection": 16, "evaluation": 100}

score = _iou.score
tally = _iou.tally
metric = _iou.metric
chance = _iou.chance
unjudgeable = _iou.unjudgeable
unseen = _iou.unseen
per_class = _iou.per_class
further = _defaults.further
judged = _defaults.judged
reference_labels = _defaults.reference_labels
settings = _defaults.settings

Sample = tuple[np.ndarray, np.ndarray]  # image uint8 [H, W, 3], mask uint8 or uint16 [H, W] (see `_masks`)


def samples(recipe: Recipe, config: dict[str, Any], split: str, count: int, *, folder: Path) -> Sequence[Sample]:
    """Returns (image, mask) pairs, from the user's images/ and masks/ folders or the drawn scenes.

    folder: the checkpoint's; its processor says what the values of a mask mean.
    """
    if recipe.data is None:
        from calibration.samples import scenes
        from calibration.samples.seeds import BY_SPLIT

        drawn, known = list(scenes.CLASSES), class_names(config)
        if known != drawn:
            raise InputError(
                f"this checkpoint's {len(known)} classes ({', '.join(known[:4])}, …) are not those of the drawn "
                f"scenes; give DATA=folder with images/ and masks/."
            )
        first = BY_SPLIT[split] + recipe.seed
        size = _image_processing.engine_size(folder, recipe)
        return [_cropped(*scenes.draw_scene(seed, max(size)), size) for seed in range(first, first + count)]
    meaning, pairs = Meaning.of(folder, config), find_pairs(_files.located(recipe.data))
    return Pairs(take(pairs, split, recipe, SAMPLES), meaning)


def _cropped(image: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> Sample:
    """Returns the middle of a drawn scene, which is square: squeezing it would change the shapes of things."""
    top, left = ((whole - part) // 2 for whole, part in zip(mask.shape, size, strict=True))
    inside = slice(top, top + size[0]), slice(left, left + size[1])
    return image[inside], mask[inside]


@dataclass(frozen=True)
class Pairs(Sequence[Sample]):
    """Files of images and masks, each read when needed: a hundred photographs would fill the memory."""

    paths: Sequence[tuple[Path, Path]]
    meaning: Meaning

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, at: int) -> Sample: ...
    @overload
    def __getitem__(self, at: slice) -> Pairs: ...
    def __getitem__(self, at: int | slice) -> Sample | Pairs:
        if isinstance(at, slice):
            return replace(self, paths=self.paths[at])
        return read_pair(*self.paths[at], self.meaning)


def find_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Returns (image, mask) paths of equal stem. Raises InputError naming an image without a mask."""
    expected = "expected images/ and masks/ with equal file names"
    if not folder.is_dir():
        kind = _files.foreign(folder)
        raise InputError(f"data {shown(folder)} is {kind or 'a file where a folder is expected'}; {expected}.")
    parts = {kind: folder / kind for kind in ("images", "masks")}
    for kind, path in parts.items():
        if not path.is_dir():
            raise InputError(f"data {shown(folder)} has no folder {kind!r}; {expected}, {_files.sample_of(folder)}.")
    images, masks = (_images.find(path) for path in parts.values())
    if not images:
        known, there = ", ".join(_images.SUFFIXES), _files.sample_of(parts["images"])
        raise InputError(f"{shown(parts['images'])} has no images ({known}); {there}.")
    if missing := sorted(images.keys() - masks.keys()):
        raise InputError(
            f"{len(missing)} images have no mask of the same name, the first is {missing[0]!r}."
            f"{near_names(missing[0], masks)}"
        )
    if spare := sorted(masks.keys() - images.keys()):
        log.warning("%s: %d masks have no image and are not used, the first is %r", shown(folder), len(spare), spare[0])
    return [(path, masks[stem]) for stem, path in images.items()]


def read_pair(image_path: Path, mask_path: Path, meaning: Meaning) -> Sample:
    """Returns one image and its mask. Raises InputError for unequal sizes, or labels outside the classes."""
    image, mask = _images.read_image(image_path), meaning.read(mask_path)
    if mask.shape != image.shape[:2]:
        raise InputError(
            f"{shown(mask_path)} is {mask.shape[1]}×{mask.shape[0]}, its image is {image.shape[1]}×{image.shape[0]}."
        )
    return image, mask


def encode(folder: Path, recipe: Recipe, samples: Sequence[Sample]) -> tuple[Arrays, Arrays]:
    """Returns pixel_values [N, 3, H, W] and masks [N, H, W] at the engine's size (nearest neighbours where resized)."""
    size, processing = _image_processing.engine_size(folder, recipe), _image_processing.read(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    pairs = [(processing.pixel_values(image, size), processing.mask(mask, size)) for image, mask in samples]
    images, masks = (np.stack(part) for part in zip(*pairs, strict=True))
    return {"pixel_values": images}, {"mask": masks, "class_names": np.array(class_names(config))}


def own_encoding(folder: Path, recipe: Recipe, samples: Sequence[Sample]) -> Arrays:
    """Returns the inputs that the checkpoint's own image processor makes, at the engine's size."""
    return _image_processing.own_pixels(folder, recipe, [image for image, _ in samples])


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


def label_map(logits: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the class of every pixel, uint8 or uint16 [height, width], of logits [C, h, w] resized bilinearly.

    One row at a time with the classes innermost: 150 classes at 512×512 would be 157 MB at once, and argmax over the
    first axis strides through all of it.
    """
    columns = blend(np.ascontiguousarray(logits.transpose(2, 1, 0), dtype=np.float32), taps(logits.shape[2], width))
    rows = np.ascontiguousarray(columns.transpose(1, 0, 2))  # [h, width, C]
    low, high, weight = taps(logits.shape[1], height)
    classes = np.empty((height, width), dtype=_masks.kind(len(logits)))
    for y in range(height):
        classes[y] = (rows[low[y]] * (1 - weight[y]) + rows[high[y]] * weight[y]).argmax(-1)
    return classes


def predict(outputs: Arrays, labels: Arrays) -> np.ndarray:
    """Returns label maps [N, H, W] at the masks' size."""
    height, width = labels["mask"].shape[1:]
    return np.stack([label_map(x, height, width) for x in outputs["logits"]])


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the share of equal pixels."""
    return float((a == b).mean())


def examples(
    inputs: Arrays, labels: Arrays, reference: np.ndarray, engine: np.ndarray, limit: int
) -> list[dict[str, Any]]:
    """Returns images with their label maps, those with the most differing pixels first."""
    differing = (reference != engine).reshape(len(reference), -1).mean(1)
    return [
        {
            "pixel_values": inputs["pixel_values"][i],
            "label": labels["mask"][i],
            "float": reference[i],
            "engine": engine[i],
            "agreement": float(1 - differing[i]),
        }
        for i in np.argsort(-differing)[:limit]
    ]


def preprocess(folder: Path, raw: Any, recipe: Recipe) -> tuple[Arrays, Arrays]:
    """Returns engine inputs for an image (path, PIL image or uint8 [H, W, 3]) or a list of them."""
    images = _images.several(raw)
    return encode(folder, recipe, [(image, np.zeros(image.shape[:2], np.uint8)) for image in images])


def postprocess(folder: Path, outputs: Arrays, labels: Arrays) -> np.ndarray:
    """Returns label maps [N, H, W] at the engine's size, uint8, or uint16 for more than 255 classes."""
    return predict(outputs, labels)
