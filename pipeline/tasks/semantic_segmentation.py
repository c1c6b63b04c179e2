"""Semantic segmentation: one class per pixel, scored by the mean intersection over union."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import InputError, near_names
from pipeline.tasks import Arrays, _defaults, _files, _image_processing, _images, _iou, _labels, _windows, take
from pipeline.tasks._files import shown
from pipeline.tasks._label_maps import LabelMaps, label_map
from pipeline.tasks._labels import class_names
from pipeline.tasks._masks import Meaning, nothing
from pipeline.tasks._windows import Slide

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
        size = _scene_size(folder, recipe)
        return [_cropped(*scenes.draw_scene(seed, max(size)), size) for seed in range(first, first + count)]
    meaning, pairs = Meaning.of(folder, config), find_pairs(_files.located(recipe.data))
    windows = slide(folder, recipe)

    def read(paths: tuple[Path, Path]) -> Sample:
        image, mask = read_pair(*paths, meaning)
        if windows is not None:  # the image must be large enough for them
            windows.require(mask.shape, shown(paths[0]))
        return image, mask

    return _images.ReadLater(take(pairs, split, recipe, SAMPLES), read)


def _scene_size(folder: Path, recipe: Recipe) -> tuple[int, int]:
    """Returns the size of a drawn scene: the engine's, or for windows the checkpoint's own where that is larger."""
    height, width = _image_processing.engine_size(folder, recipe)
    own = _image_processing.own_size(folder) if recipe.shapes.window_stride else {}
    return max(height, own.get("height", 0)), max(width, own.get("width", 0))


def slide(folder: Path, recipe: Recipe) -> Slide | None:
    """Returns the windows that the recipe asks for, None where images are resized."""
    stride = recipe.shapes.window_stride
    return None if stride is None else Slide(_image_processing.engine_size(folder, recipe), stride)


def _cropped(image: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> Sample:
    """Returns the middle of a drawn scene, which is square: squeezing it would change the shapes of things."""
    top, left = ((whole - part) // 2 for whole, part in zip(mask.shape, size, strict=True))
    inside = slice(top, top + size[0]), slice(left, left + size[1])
    return image[inside], mask[inside]


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
    """Returns pixel_values [N, 3, H, W] and masks [N, H, W] at the engine's size (nearest neighbours where resized).

    With shapes.window_stride they are windows, and more labels say where they lie (see `_windows`).
    """
    size, processing = _image_processing.engine_size(folder, recipe), _image_processing.read(folder)
    names = {"class_names": np.array(_labels.names_in(folder))}
    windows = slide(folder, recipe)
    if windows is not None:
        cut = [(processing.pixel_values(image, size), part) for image, part in windows.cut(samples)]
        pixels, parts = zip(*cut, strict=True)
        return {"pixel_values": np.stack(pixels)}, {**_windows.labels(parts), **names}
    pairs = [(processing.pixel_values(image, size), processing.mask(mask, size)) for image, mask in samples]
    images, masks = (np.stack(part) for part in zip(*pairs, strict=True))
    return {"pixel_values": images}, {"mask": masks, **names}


def own_encoding(folder: Path, recipe: Recipe, samples: Sequence[Sample]) -> Arrays:
    """Returns the inputs that the checkpoint's own image processor makes of images or windows, at the engine's size."""
    windows = slide(folder, recipe)
    images = [image for image, _ in (samples if windows is None else windows.cut(samples))]
    return _image_processing.own_pixels(folder, recipe, images)


def predict(outputs: Arrays, labels: Arrays) -> LabelMaps:
    """Returns label maps [N, H, W] at the masks' size; of windows, one of every image's own size."""
    if _windows.are_in(labels):
        return _windows.label_maps(outputs["logits"], labels)
    height, width = labels["mask"].shape[1:]
    return np.stack([label_map(x, height, width) for x in outputs["logits"]])


def agreement(a: LabelMaps, b: LabelMaps) -> float:
    """Returns the share of equal pixels, those aside that no window covers."""
    pairs = [(x == y, x != nothing(x)) for x, y in zip(a, b, strict=True)]
    return float(sum((equal & known).sum() for equal, known in pairs) / sum(known.sum() for _, known in pairs))


def examples(
    inputs: Arrays, labels: Arrays, reference: LabelMaps, engine: LabelMaps, limit: int
) -> list[dict[str, Any]]:
    """Returns images with their label maps, those with the most differing pixels first."""
    differing = np.array([(x != y).mean() for x, y in zip(reference, engine, strict=True)])
    pixels, masks = list(inputs["pixel_values"]), _iou.masks(labels)
    if _windows.are_in(labels):
        last = inputs["pixel_values"].transpose(0, 2, 3, 1)  # channels last
        pixels = [image.transpose(2, 0, 1) for image in _windows.whole(last, labels, 0)]
    return [
        {
            "pixel_values": pixels[i],
            "label": masks[i],
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


def postprocess(folder: Path, outputs: Arrays, labels: Arrays) -> LabelMaps:
    """Returns label maps, uint8, or uint16 for more than 255 classes: [N, H, W] at the engine's size.

    Of windows a list of [H, W] at every image's own size.
    """
    return predict(outputs, labels)
