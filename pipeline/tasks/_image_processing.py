"""A checkpoint's preprocessor_config.json, every setting of which is followed or refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pipeline.checkpoint.image_size import ImageSize, is_length
from pipeline.checkpoint.reading import read_object
from pipeline.errors import InputError, in_short

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

FILE = "preprocessor_config.json"
USUAL = 512  # pixels: SegFormer's default size, where the file names none
FOLLOWED = ("do_normalize", "do_reduce_labels", "do_rescale", "do_resize", "do_convert_rgb")


@dataclass(frozen=True)
class Processing:
    """How images become pixel values. mean, std: float32 [3]; factor: of rescaling, 1 for none.

    resizes: whether images of other sizes are resized or refused. reduces_labels: see `_masks.Meaning`.
    """

    mean: np.ndarray
    std: np.ndarray
    factor: float
    resample: Image.Resampling
    resizes: bool
    reduces_labels: bool

    def pixel_values(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Returns the network's input float32 [3, height, width] for uint8 [H, W, 3]: resized, rescaled, normalized.

        size: height and width, whatever the image's aspect ratio, as transformers' processors take these two.
        """
        if image.shape[:2] != size:
            self._may_resize(image.shape[:2], size)
            image = np.asarray(Image.fromarray(image).resize(size[::-1], self.resample))
        with np.errstate(over="ignore"):  # calibration refuses infinite values by name
            scaled = (image.astype(np.float32) * np.float32(self.factor) - self.mean) / self.std
        return np.asarray(scaled.transpose(2, 0, 1))

    def image(self, pixels: np.ndarray) -> np.ndarray:
        """Returns normalized pixels [H, W, 3] with the values 0 to 255 that they had before."""
        return np.asarray((pixels * self.std + self.mean) / self.factor)

    def mask(self, mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Returns a mask [H, W] of class indices resized to the network's size by nearest neighbours."""
        if mask.shape == size:
            return mask
        self._may_resize(mask.shape, size)
        return np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))

    def _may_resize(self, shape: tuple[int, ...], size: tuple[int, int]) -> None:
        if not self.resizes:
            raise InputError(
                f"an image of {shape[1]}×{shape[0]} pixels for an engine of {size[1]}×{size[0]} (width×height): the "
                f"checkpoint's {FILE} has do_resize = false. Give images of that size, or another shapes.image_size."
            )


def read(folder: Path) -> Processing:
    """Returns the checkpoint's processing. Raises InputError for missing, unusable or unsupported settings."""
    path, config = folder / FILE, _settings(folder)
    try:
        on = config.get("do_normalize", True)
        mean = _channels(config["image_mean"] if on else 0.0)
        std = _channels(config["image_std"] if on else 1.0)
        factor = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
        resample = Image.Resampling(config.get("resample", Image.Resampling.BILINEAR))
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(
            f"{path} has no usable image_mean, image_std, rescale_factor and resample: {in_short(error)}."
        ) from error
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise InputError(f"{path}: image_mean {mean.tolist()} must be finite, image_std {std.tolist()} positive.")
    others = sorted(key for key, value in config.items() if key.startswith("do_") and value and key not in FOLLOWED)
    if others:
        raise InputError(f"{path} asks for {', '.join(others)}, which is not done here: the pixels would differ.")
    reduces = config.get("do_reduce_labels", config.get("reduce_labels", False))  # the second: before transformers 4.2x
    return Processing(mean, std, factor, resample, bool(config.get("do_resize", True)), bool(reduces))


def engine_size(folder: Path, recipe: Recipe) -> ImageSize:
    """Returns the size of the network's input: the recipe's, or else the checkpoint's own.

    Raises InputError for a checkpoint's size that no engine here can have.
    """
    if recipe.shapes.image_size is not None:
        return recipe.shapes.image_size
    size = own_size(folder)
    if size.keys() == {"height", "width"}:
        return ImageSize(size["height"], size["width"])
    raise InputError(
        f"{folder / FILE} has size = {size}, and an engine here takes images of one height and width; say which, "
        "--set shapes.image_size=512 or 512x1024 for example."
    )


def own_size(folder: Path) -> dict[str, int]:
    """Returns the size to which the checkpoint's own processor resizes: {height, width}, or {shortest_edge} and others.

    A number is a square, and two are height and width, as in transformers.
    """
    config = _settings(folder)
    size: Any = config.get("size", USUAL)
    if _is_size(size):
        square = config.get("default_to_square", True)
        size = {"height": size, "width": size} if square else {"shortest_edge": size}
    elif isinstance(size, list) and len(size) == 2:
        size = dict(zip(("height", "width"), size, strict=True))
    if not isinstance(size, dict) or not size or not all(map(_is_size, size.values())):
        raise InputError(f"{folder / FILE} has size = {size!r}; expected pixels, {{'height': 512, 'width': 512}}.")
    return size


def other_size(folder: Path, recipe: Recipe) -> dict[str, int] | None:
    """Returns the size that the checkpoint's own processor gives images; None where it is the engine's."""
    size = own_size(folder)
    if not _settings(folder).get("do_resize", True) or size == engine_size(folder, recipe)._asdict():
        return None
    return size


def own_pixels(folder: Path, recipe: Recipe, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the inputs that the checkpoint's own image processor makes in transformers, at the engine's size.

    It is told that size only where its own differs: otherwise its own is checked against what is read here.
    """
    from transformers import AutoImageProcessor

    own = AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False)
    asked = {"size": engine_size(folder, recipe)._asdict()} if other_size(folder, recipe) else {}
    return {"pixel_values": own(list(images), **asked, return_tensors="np")["pixel_values"]}


def described(size: Mapping[str, int]) -> str:
    """Returns a processor's size for people: 512×512, height 512, width 1024, or shortest_edge 512."""
    if size.keys() == {"height", "width"} and size["height"] == size["width"]:
        return f"{size['width']}×{size['height']}"
    return ", ".join(f"{name} {value}" for name, value in size.items())


def _is_size(value: Any) -> bool:
    return is_length(value) and value > 0


def _settings(folder: Path) -> dict[str, Any]:
    if not (folder / FILE).exists():
        raise InputError(f"checkpoint {folder} has no {FILE} (image mean, std and size).")
    return read_object(folder / FILE)


def _channels(value: Any) -> np.ndarray:
    """Returns float32 [3]; one number counts for every channel."""
    array = np.asarray(value, dtype=np.float32)
    return np.full(3, array) if array.ndim == 0 else array.reshape(3)
