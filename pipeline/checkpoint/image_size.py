"""The size of a network's images, as recipes, checkpoints and reports name it."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

LEAST, MOST = 32, 8192  # pixels of a side


class ImageSize(NamedTuple):
    """Height and width in pixels, in this order as in PyTorch and in transformers' image processors."""

    height: int
    width: int

    def __str__(self) -> str:
        return str(self.setting)

    @property
    def setting(self) -> int | str:
        """What a recipe and a manifest hold: 512 for a square, else '512x1024', height first."""
        return self.height if self.height == self.width else f"{self.height}x{self.width}"


def parse(value: Any) -> ImageSize:
    """Returns the size that a setting names: 512, '512x1024' or [512, 1024], height first.

    Raises ValueError for anything else, and for a side below LEAST or above MOST.
    """
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}(x[0-9]{1,9})?", value):
        value = [int(side) for side in value.split("x")]
        value = value * 2 if len(value) == 1 else value
    sides = [value, value] if is_length(value) else value
    if not isinstance(sides, list | tuple) or len(sides) != 2 or not all(is_length(side) for side in sides):
        raise ValueError("expected pixels: 512, or 512x1024 for a height of 512 and a width of 1024")
    if min(sides) < LEAST:
        raise ValueError(f"a side should be greater than or equal to {LEAST}")
    if max(sides) > MOST:
        raise ValueError(f"a side should be less than or equal to {MOST}")
    return ImageSize(*sides)


def is_length(value: Any) -> bool:
    """Returns whether a value is a number of pixels."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
