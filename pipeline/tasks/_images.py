"""Images and masks as their owners see them: upright, 8 bits per channel, class indices untouched; or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
from PIL import Image, ImageOps

from pipeline.errors import InputError, in_short
from pipeline.tasks import _files
from pipeline.tasks._files import shown

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
EIGHT_BIT = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
Sample = TypeVar("Sample")
LOSSY = ("JPEG", "MPO", "WEBP", "JPEG2000", "AVIF")  # these change a mask's classes along every edge


@dataclass(frozen=True)
class ReadLater(Sequence[Sample]):
    """Samples whose files are read when they are needed: a hundred photographs would fill the memory.

    places: what `read` makes a sample of, such as the paths of an image and its mask.
    """

    places: Sequence[Any]
    read: Callable[[Any], Sample]

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, at: int) -> Sample: ...
    @overload
    def __getitem__(self, at: slice) -> ReadLater[Sample]: ...
    def __getitem__(self, at: int | slice) -> Sample | ReadLater[Sample]:
        if isinstance(at, slice):
            return replace(self, places=self.places[at])
        return self.read(self.places[at])


def find(folder: Path) -> dict[str, Path]:
    """Returns the image files of a folder by stem, without what file managers leave (`._x`, `.DS_Store`).

    Raises InputError where two files share a stem: a mask could belong to either.
    """
    images: dict[str, Path] = {}
    for path in _files.listed(folder):
        if path.suffix.lower() not in SUFFIXES:
            continue
        if not path.is_file():
            kind = "a folder" if path.is_dir() else "a link that leads nowhere" if path.is_symlink() else "no file"
            raise InputError(f"{shown(path)} is {kind} where an image is expected; remove it.")
        if path.stem in images:
            raise InputError(
                f"{shown(folder)} has {images[path.stem].name} and {path.name}: one name, two files; remove one."
            )
        images[path.stem] = path
    return images


def read_image(path: Path) -> np.ndarray:
    """Returns uint8 [H, W, 3]. Raises InputError for a file that is not an image of at most 8 bits per channel."""
    with _opened(path) as image:
        return rgb(image, shown(path))


def rgb(image: Image.Image, name: str) -> np.ndarray:
    """Returns a PIL image as uint8 [H, W, 3], turned as its EXIF orientation says; transparency is dropped.

    As `transformers.image_utils.load_image` does. Raises InputError for more than 8 bits per channel, which PIL would
    clip to white.
    """
    if image.mode not in EIGHT_BIT:
        raise InputError(
            f"{name} has pixels of mode {image.mode!r}, more than 8 bits per channel; convert it to 8 bits."
        )
    with _reading(name):
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def read_mask(path: Path) -> np.ndarray:
    """Returns a mask's values as they are stored, [H, W] of any integer type.

    Raises InputError for a file that is not an image, has several channels or lost its values to compression.
    """
    name = shown(path)
    with _opened(path) as image, _reading(name):
        if image.format in LOSSY:
            raise InputError(f"{name} is {image.format}, which changes values along edges; a mask needs PNG or BMP.")
        mask = np.asarray(ImageOps.exif_transpose(image))
    if mask.ndim != 2:
        raise InputError(f"{name} has {mask.ndim} axes; a mask is one channel of class indices.")
    if mask.dtype.kind not in "iub":
        raise InputError(f"{name} has values of type {mask.dtype}; a mask holds class indices.")
    return mask


def from_memory(raw: Any) -> np.ndarray:
    """Returns uint8 [H, W, 3] for a path, a PIL image or an array of exactly that form.

    Raises InputError for any other array: a float image may run to 1 or to 255, and a gray one has no colours.
    """
    if isinstance(raw, np.ndarray):
        if raw.dtype != np.uint8 or raw.ndim != 3 or raw.shape[2] != 3 or 0 in raw.shape:
            raise InputError(
                f"an image array is uint8 [height, width, 3], found {raw.dtype} {list(raw.shape)}; convert it, "
                "or give the path or a PIL image."
            )
        return raw
    if isinstance(raw, Image.Image):
        return rgb(raw, "the image")
    if isinstance(raw, str | Path):
        return read_image(Path(raw))
    raise InputError(f"an image is a path, a PIL image or a uint8 array, found {type(raw).__name__}.")


def several(raw: Any) -> list[np.ndarray]:
    """Returns an engine's raw input, an image or a list of them, as uint8 [H, W, 3] each."""
    images = [from_memory(image) for image in (raw if isinstance(raw, list | tuple) else [raw])]
    if not images:
        raise InputError("the engine takes an image or a list of images, found an empty list.")
    return images


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Yields an opened image file. Raises InputError naming what it is instead."""
    name = shown(path)
    with _reading(name):
        if foreign := _files.foreign(path):
            raise InputError(f"{name} cannot be read as an image: it is {foreign}.")
        image = Image.open(path)
    with image:
        yield image


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turns whatever PIL raises, which can be any exception, into an InputError that names the image."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{name} cannot be read as an image: {in_short(error)}. Save it again, without its metadata, or leave "
            "it out."
        ) from error
