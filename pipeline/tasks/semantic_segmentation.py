"""Semantic segmentation: one class a pixel, scored by the mean intersection over union."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline.errors import InputError
from pipeline.recipe import Recipe
from pipeline.tasks import Arrays, take
from pipeline.tasks.text_classification import class_names

METRIC = "miou"
AGREEMENT = 0.99  # pixels
SAMPLES = {"calibration": 32, "selection": 16, "evaluation": 32}
IGNORE = 255
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
Sample = tuple[np.ndarray, np.ndarray]  # image uint8 [H, W, 3], mask uint8 [H, W]


def samples(recipe: Recipe, config: dict[str, Any], split: str, count: int) -> list[Sample]:
    """Returns (image, mask) pairs, from the user's images/ and masks/ folders or the drawn scenes."""
    if recipe.data is None:
        from calibration import scenes
        from calibration.seeds import BY_SPLIT

        drawn, known = list(scenes.CLASSES), class_names(config)
        if known != drawn:
            raise InputError(
                f"this checkpoint's {len(known)} classes ({', '.join(known[:4])}, …) are not those of the drawn "
                f"scenes; give DATA=folder with images/ and masks/."
            )
        first = BY_SPLIT[split] + recipe.seed
        return [scenes.draw_scene(seed, recipe.shapes.image_size) for seed in range(first, first + count)]
    pairs = find_pairs(Path(recipe.data).expanduser())
    chosen = take(pairs, split, recipe, SAMPLES)
    return [read_pair(*pair, len(class_names(config))) for pair in chosen]


def find_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Returns (image, mask) paths of equal stem. Raises InputError naming what has no partner."""
    parts = {kind: folder / kind for kind in ("images", "masks")}
    for kind, path in parts.items():
        if not path.is_dir():
            raise InputError(
                f"data {folder} has no folder {kind!r}; expected images/ and masks/ with equal file names."
            )
    images = {p.stem: p for p in sorted(parts["images"].iterdir()) if p.suffix.lower() in IMAGES}
    masks = {p.stem: p for p in sorted(parts["masks"].iterdir()) if p.suffix.lower() in IMAGES}
    if not images:
        raise InputError(f"{parts['images']} has no images ({', '.join(IMAGES)}).")
    if missing := sorted(images.keys() - masks.keys()):
        raise InputError(f"{len(missing)} images have no mask of the same name, the first is {missing[0]!r}.")
    return [(path, masks[stem]) for stem, path in images.items()]


def read_pair(image_path: Path, mask_path: Path, classes: int) -> Sample:
    """Returns one image and its mask. Raises InputError for another size or labels outside the classes."""
    try:
        image = np.asarray(Image.open(image_path).convert("RGB"))
        mask = np.asarray(Image.open(mask_path))
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"{image_path.name} or its mask cannot be read: {error}.") from error
    if mask.ndim != 2:
        raise InputError(f"{mask_path} has {mask.ndim} axes; a mask is one channel of class indices.")
    if mask.shape != image.shape[:2]:
        raise InputError(
            f"{mask_path} is {mask.shape[1]}×{mask.shape[0]}, its image is {image.shape[1]}×{image.shape[0]}."
        )
    if outside := sorted(int(v) for v in np.unique(mask) if v >= classes and v != IGNORE):
        raise InputError(
            f"{mask_path} has labels {outside[:5]} outside the {classes} classes of the checkpoint "
            f"(0–{classes - 1}; {IGNORE} is ignored)."
        )
    return image, mask.astype(np.uint8)


def normalization(folder: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns mean [3], std [3] and the rescale factor of the checkpoint's preprocessor_config.json.

    Raises InputError when one is missing or of no use.
    """
    path = folder / "preprocessor_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        on = config.get("do_normalize", True)
        mean = np.asarray(config["image_mean"] if on else [0.0] * 3, dtype=np.float32).reshape(3)
        std = np.asarray(config["image_std"] if on else [1.0] * 3, dtype=np.float32).reshape(3)
        factor = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(f"{path} has no usable image_mean, image_std and rescale_factor: {error!r}.") from error
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise InputError(f"{path}: image_mean {mean.tolist()} must be finite, image_std {std.tolist()} positive.")
    return mean, std, factor


def pixel_values(folder: Path, image: np.ndarray, size: int) -> np.ndarray:
    """Returns the network's input float32 [3, size, size]: resized bilinearly, rescaled, normalized."""
    mean, std, factor = normalization(folder)
    if image.shape[:2] != (size, size):
        image = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
    with np.errstate(over="ignore"):  # calibration refuses infinite values by name
        scaled = (image.astype(np.float32) * np.float32(factor) - mean) / std
    return np.asarray(scaled.transpose(2, 0, 1))


def encode(folder: Path, recipe: Recipe, samples: list[Sample]) -> tuple[Arrays, Arrays]:
    """Returns pixel_values [N, 3, S, S] and masks [N, S, S] (nearest-neighbour where resized)."""
    size = recipe.shapes.image_size
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    masks = [
        mask
        if mask.shape == (size, size)
        else np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST))
        for _, mask in samples
    ]
    inputs = {"pixel_values": np.stack([pixel_values(folder, image, size) for image, _ in samples])}
    return inputs, {"mask": np.stack(masks), "class_names": np.array(class_names(config))}


Taps = tuple[np.ndarray, np.ndarray, np.ndarray]


def taps(small: int, large: int) -> Taps:
    """Returns, for each of `large` positions, its two neighbours among `small` and the weight of the second.

    Half-pixel centres, as PyTorch's bilinear interpolation in the training loss has them.
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
    """Returns the class of every pixel, uint8 [height, width], of logits [C, h, w] resized bilinearly.

    A row at a time with the classes innermost: 150 classes at 512×512 would be 157 MB at once, and argmax over the
    first axis strides through all of it.
    """
    columns = blend(np.ascontiguousarray(logits.transpose(2, 1, 0), dtype=np.float32), taps(logits.shape[2], width))
    rows = np.ascontiguousarray(columns.transpose(1, 0, 2))  # [h, width, C]
    low, high, weight = taps(logits.shape[1], height)
    found = np.empty((height, width), dtype=np.uint8)
    for y in range(height):
        found[y] = (rows[low[y]] * (1 - weight[y]) + rows[high[y]] * weight[y]).argmax(-1)
    return found


def predict(outputs: Arrays, labels: Arrays) -> np.ndarray:
    """Returns label maps uint8 [N, H, W] at the masks' size."""
    height, width = labels["mask"].shape[1:]
    return np.stack([label_map(x, height, width) for x in outputs["logits"]])


def class_iou(predictions: np.ndarray, labels: Arrays) -> np.ndarray:
    """Returns the intersection over union of every class [C], NaN where a class occurs in neither."""
    from sklearn.metrics import confusion_matrix

    classes = len(labels["class_names"])
    matrix = np.zeros((classes, classes), dtype=np.int64)
    for truth, found in zip(labels["mask"], predictions, strict=True):
        valid = truth != IGNORE
        if valid.any():
            matrix += confusion_matrix(truth[valid], found[valid], labels=np.arange(classes))
    hit = np.diag(matrix)
    union = matrix.sum(0) + matrix.sum(1) - hit
    return np.asarray(np.divide(hit, union, out=np.full(classes, np.nan), where=union > 0))


def score(predictions: np.ndarray, labels: Arrays) -> float:
    """Returns the mean IoU over the classes that occur."""
    return float(np.nanmean(class_iou(predictions, labels)))


def per_class(predictions: np.ndarray, labels: Arrays) -> dict[str, float]:
    """Returns {class: IoU} for the classes that occur."""
    found = zip(labels["class_names"], class_iou(predictions, labels), strict=True)
    return {str(name): float(value) for name, value in found if not np.isnan(value)}


def per_sample(predictions: np.ndarray, labels: Arrays) -> list[float]:
    """Returns the mean IoU of every image over the classes that occur in it."""
    return [
        score(predictions[i : i + 1], {**labels, "mask": labels["mask"][i : i + 1]}) for i in range(len(predictions))
    ]


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the share of equal pixels."""
    return float((a == b).mean())


def examples(
    inputs: Arrays, labels: Arrays, reference: np.ndarray, engine: np.ndarray, limit: int
) -> list[dict[str, Any]]:
    """Returns images with their label maps, the ones with most differing pixels first."""
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
    images = [_as_array(x) for x in (raw if isinstance(raw, list | tuple) else [raw])]
    return encode(folder, recipe, [(image, np.full(image.shape[:2], IGNORE, np.uint8)) for image in images])


def _as_array(raw: Any) -> np.ndarray:
    if isinstance(raw, np.ndarray):
        return raw
    return np.asarray((raw if isinstance(raw, Image.Image) else Image.open(raw)).convert("RGB"))


def postprocess(folder: Path, outputs: Arrays, labels: Arrays) -> np.ndarray:
    """Returns label maps uint8 [N, S, S]."""
    return predict(outputs, labels)
