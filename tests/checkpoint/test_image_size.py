"""The size of images: one number or two, height first, read and written the same way everywhere."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.checkpoint import image_size
from pipeline.checkpoint.image_size import ImageSize


@pytest.mark.parametrize(
    ("value", "expected", "setting"),
    [
        (512, (512, 512), 512),
        ("512", (512, 512), 512),
        ("512x1024", (512, 1024), "512x1024"),
        ([1024, 512], (1024, 512), "1024x512"),
        ((96, 96), (96, 96), 96),
        (ImageSize(32, 8192), (32, 8192), "32x8192"),
    ],
    ids=str,
)
def test_a_size_is_read_and_written(value: Any, expected: tuple[int, int], setting: int | str) -> None:
    size = image_size.parse(value)
    assert size == expected and (size.height, size.width) == expected
    assert size.setting == setting and str(size) == f"{size}" == str(setting)
    assert image_size.parse(size.setting) == size


@pytest.mark.parametrize(
    ("value", "said"),
    [
        *((value, "expected pixels: 512, or 512x1024 for a height") for value in (
            "big", "512x", "x512", "512x512x3", "512 x 512", "512×512", -64, 512.0, True, [512], [1, 2, 3], ["a"], {}
        )),
        (31, "greater than or equal to 32"),
        ("64x31", "greater than or equal to 32"),
        (0, "greater than or equal to 32"),
        ("8193x64", "less than or equal to 8192"),
        ("999999999x64", "less than or equal to 8192"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_size_is_refused(value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        image_size.parse(value)
