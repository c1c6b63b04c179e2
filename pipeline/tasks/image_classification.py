"""Image classification: one label per image, scored by the share of right ones (top-1 accuracy)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import InputError
from pipeline.tasks import (
    Arrays,
    _classes,
    _defaults,
    _files,
    _image_processing,
    _images,
    _labelled_images,
    _labels,
    take,
)
from pipeline.tasks._labels import class_names

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

METRIC = "accuracy"
AGREEMENT = 0.98  # labels
SAMPLES = {"calibration": 64, "selection": 64, "evaluation": 500}
NO_LABEL = -1

further = _defaults.further
judged = _defaults.judged
metric = _defaults.metric
reference_labels = _defaults.reference_labels
settings = _defaults.settings
predict = _classes.predict
tally = _classes.tally
unseen = _classes.unseen
per_class = _classes.per_class
agreement = _classes.agreement

Sample = tuple[np.ndarray, int, str]  # image uint8 [H, W, 3], class index, file name


def samples(recipe: Recipe, config: dict[str, Any], split: str, count: int, *, folder: Path) -> Sequence[Sample]:
    """Returns (image, class index, file name) of a split. Raises InputError for a label that the checkpoint lacks."""
    if recipe.data is None:
        raise InputError(
            "an image-classification checkpoint needs labelled images: give DATA=folder with a folder per class, or "
            "DATA=file.csv with the columns image and label."
        )
    check(config)
    data = _files.located(recipe.data)
    found = _labelled_images.find(data)
    places = [one.place for one in found]
    indices = _labels.indices([one.label for one in found], class_names(config), recipe.data, places.__getitem__)
    pairs = [(one.path, index) for one, index in zip(found, indices, strict=True)]
    root = data if data.is_dir() else data.parent

    def read(pair: tuple[Path, int]) -> Sample:
        path, index = pair
        name = path.relative_to(root) if path.is_relative_to(root) else path
        return _images.read_image(path), index, _files.shown(name)

    return _images.ReadLater(take(pairs, split, recipe, SAMPLES), read)


def check(config: dict[str, Any]) -> None:
    """Raises InputError for a head whose answer is not one label of several, as accuracy then says nothing."""
    _labels.require_one_of_several(config, "an image classifier here gives each one of several labels")


def encode(folder: Path, recipe: Recipe, samples: Sequence[Sample]) -> tuple[Arrays, Arrays]:
    """Returns pixel_values [N, 3, H, W] at the engine's size, and the labels [N].

    Raises InputError for windows, over which labels cannot be averaged as those of pixels can.
    """
    if recipe.shapes.window_stride is not None:
        raise InputError("shapes.window_stride: windows slide over images for semantic segmentation alone.")
    size, processing = _image_processing.engine_size(folder, recipe), _image_processing.read(folder)
    rows = [(processing.pixel_values(image, size), index, name) for image, index, name in samples]
    images, indices, names = zip(*rows, strict=True)
    labels = {
        "label": np.array(indices, dtype=np.int64),
        "image": np.array(names),
        "class_names": np.array(_labels.names_in(folder)),
    }
    return {"pixel_values": np.stack(images)}, labels


def own_encoding(folder: Path, recipe: Recipe, samples: Sequence[Sample]) -> Arrays:
    """Returns the inputs that the checkpoint's own image processor makes, at the engine's size."""
    return _image_processing.own_pixels(folder, recipe, [image for image, _, _ in samples])


def score(predictions: np.ndarray, labels: Arrays) -> float:
    """Returns the share of right labels."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels["label"], predictions))


def chance(predictions: np.ndarray, labels: Arrays, own: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the tally of the commonest label as the answer to everything."""
    commonest = int(np.bincount(labels["label"]).argmax())
    return {f"{str(labels['class_names'][commonest])!r} for every image": tally(np.array(commonest), labels)}


def unjudgeable(labels: Arrays) -> str | None:
    """Returns that all images have the same label, None where they have several."""
    first, *others = np.unique(labels["label"])
    return None if others else f"every image is labelled {str(labels['class_names'][first])!r}"


def examples(
    inputs: Arrays, labels: Arrays, reference: np.ndarray, engine: np.ndarray, limit: int
) -> list[dict[str, Any]]:
    """Returns images with both answers, those that differ first."""
    names = labels["class_names"]
    return [
        {
            "photo": inputs["pixel_values"][i],
            "name": str(labels["image"][i]),
            "label": str(names[labels["label"][i]]),
            "float": str(names[reference[i]]),
            "engine": str(names[engine[i]]),
        }
        for i in np.argsort(reference == engine, kind="stable")[:limit]
    ]


def preprocess(folder: Path, raw: Any, recipe: Recipe) -> tuple[Arrays, Arrays]:
    """Returns engine inputs for an image (path, PIL image or uint8 [H, W, 3]) or a list of them."""
    return encode(folder, recipe, [(image, NO_LABEL, "") for image in _images.several(raw)])


def postprocess(folder: Path, outputs: Arrays, labels: Arrays) -> list[str]:
    """Returns one label name per image."""
    return [str(labels["class_names"][i]) for i in predict(outputs, labels)]
