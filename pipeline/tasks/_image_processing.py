"""What a checkpoint's preprocessor_config.json says, every setting of it followed or refused by name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.errors import InputError

FILE = "preprocessor_config.json"
IGNORE = 255
FOLLOWED = ("do_normalize", "do_reduce_labels", "do_rescale", "do_resize", "do_convert_rgb")


@dataclass(frozen=True)
class Processing:
    """mean, std: float32 [3]; factor: of the rescaling, 1 for none. resizes: whether other sizes are resized at all.

    reduces_labels: class 0 of a mask is none, and class k is k − 1 (ADE20K).
    """

    mean: np.ndarray
    std: np.ndarray
    factor: float
    resample: Image.Resampling
    resizes: bool
    reduces_labels: bool

    def pixel_values(self, image: np.ndarray, size: int) -> np.ndarray:
        """Returns the network's input float32 [3, size, size] of uint8 [H, W, 3]: resized, rescaled, normalized."""
        if image.shape[:2] != (size, size):
            self._may_resize(image.shape[:2], size)
            image = np.asarray(Image.fromarray(image).resize((size, size), self.resample))
        with np.errstate(over="ignore"):  # calibration refuses infinite values by name
            scaled = (image.astype(np.float32) * np.float32(self.factor) - self.mean) / self.std
        return np.asarray(scaled.transpose(2, 0, 1))

    def image(self, pixels: np.ndarray) -> np.ndarray:
        """Returns normalized pixels [H, W, 3] as they were before, of 0 to 255."""
        return np.asarray((pixels * self.std + self.mean) / self.factor)

    def mask(self, mask: np.ndarray, size: int) -> np.ndarray:
        """Returns a mask [H, W] of class indices at the network's size, by nearest neighbours."""
        if mask.shape == (size, size):
            return mask
        self._may_resize(mask.shape, size)
        return np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST))

    def classes(self, mask: np.ndarray) -> np.ndarray:
        """Returns the class indices that a stored mask means; IGNORE where it has none."""
        if not self.reduces_labels:
            return mask
        found = mask.astype(np.int64)
        return np.where((found == 0) | (found == IGNORE), IGNORE, found - 1)

    def _may_resize(self, shape: tuple[int, ...], size: int) -> None:
        if not self.resizes:
            raise InputError(
                f"an image of {shape[1]}×{shape[0]} pixels for an engine of {size}×{size}: the checkpoint's {FILE} has "
                "do_resize = false. Give images of that size, or another shapes.image_size."
            )


def read(folder: Path) -> Processing:
    """Returns the checkpoint's processing. Raises InputError for what is missing, of no use or not followed here."""
    path = folder / FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        on = config.get("do_normalize", True)
        mean = _channels(config["image_mean"] if on else 0.0)
        std = _channels(config["image_std"] if on else 1.0)
        factor = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
        resample = Image.Resampling(config.get("resample", Image.Resampling.BILINEAR))
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(
            f"{path} has no usable image_mean, image_std, rescale_factor and resample: {error!r}."
        ) from error
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise InputError(f"{path}: image_mean {mean.tolist()} must be finite, image_std {std.tolist()} positive.")
    others = sorted(key for key, value in config.items() if key.startswith("do_") and value and key not in FOLLOWED)
    if others:
        raise InputError(f"{path} asks for {', '.join(others)}, which is not done here: the pixels would be others.")
    reduces = config.get("do_reduce_labels", config.get("reduce_labels", False))  # the second: before transformers 4.2x
    return Processing(mean, std, factor, resample, bool(config.get("do_resize", True)), bool(reduces))


def _channels(value: Any) -> np.ndarray:
    """Returns float32 [3]; one number counts for every channel."""
    array = np.asarray(value, dtype=np.float32)
    return np.full(3, array) if array.ndim == 0 else array.reshape(3)
