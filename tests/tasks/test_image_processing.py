"""Images and masks as their owners see them, or refused by name; the checkpoint's processor followed or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers import tiny
from helpers.runs import recipe_for
from pipeline.checkpoint import EMBEDDED
from pipeline.errors import InputError
from pipeline.model import processing_check
from pipeline.tasks import _image_processing, _images
from pipeline.tasks import semantic_segmentation as segmentation

PLAIN = _image_processing.read(EMBEDDED / "segformer")
UPSIDE_DOWN, RIGHT = 3, 6  # of EXIF's Orientation


def noise(shape: tuple[int, ...] = (24, 32, 3), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def settings(folder: Path, **changes: Any) -> Path:
    """Returns `folder` with the embedded SegFormer's processor and these settings changed; None removes one."""
    config = json.loads((EMBEDDED / "segformer" / _image_processing.FILE).read_text(encoding="utf-8"))
    config = {key: value for key, value in {**config, **changes}.items() if value is not None}
    folder.mkdir(exist_ok=True)
    (folder / _image_processing.FILE).write_text(json.dumps(config), encoding="utf-8")
    shutil.copyfile(EMBEDDED / "segformer" / "config.json", folder / "config.json")
    return folder


# --- files ---


def test_an_image_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    """As `load_image` of transformers; a mask drawn on the upright picture then fits."""
    from transformers.image_utils import load_image

    image = noise()
    for orientation, upright in ((UPSIDE_DOWN, image[::-1, ::-1]), (RIGHT, np.rot90(image, -1))):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.png"
        Image.fromarray(image).save(path, exif=exif)
        np.testing.assert_array_equal(_images.read_image(path), upright)
        np.testing.assert_array_equal(_images.read_image(path), np.asarray(load_image(str(path))))
        np.testing.assert_array_equal(_images.from_memory(Image.open(path)), upright)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_eight_bit_images_are_read_as_transformers_reads_them(mode: str, tmp_path: Path) -> None:
    from transformers.image_utils import load_image

    path = tmp_path / ("x.png" if mode != "CMYK" else "x.jpg")
    Image.fromarray(noise()).convert(mode).save(path)
    np.testing.assert_array_equal(_images.read_image(path), np.asarray(load_image(str(path))))


@pytest.mark.parametrize(("dtype", "suffix"), [(np.uint16, "png"), (np.int32, "tif"), (np.float32, "tif")])
def test_deeper_images_are_refused_not_clipped(dtype: Any, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(noise((24, 32)).astype(dtype) * dtype(100)).save(path)
    with pytest.raises(InputError, match=r"deep\.\w+ has pixels of mode '[IF].*more than 8 bits"):
        _images.read_image(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n", b"no image", None], ids=["empty", "head", "text", "cut"]
)
def test_what_is_no_image_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(noise((64, 64, 3))).save(path)
    path.write_bytes(path.read_bytes()[:400] if content is None else content)
    for read in (_images.read_image, _images.read_mask):
        with pytest.raises(InputError, match=r"x\.png cannot be read as an image"):
            read(path)


def test_text_chunks_that_pil_refuses_are_told_with_the_file(tmp_path: Path) -> None:
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * (2 << 20), zip=True)
    Image.fromarray(noise()).save(tmp_path / "x.png", pnginfo=info)
    with pytest.raises(InputError, match=r"x\.png cannot be read as an image: .*too large"):
        _images.read_image(tmp_path / "x.png")


@pytest.mark.parametrize(("suffix", "format_"), [("jpg", "JPEG"), ("png", "JPEG"), ("webp", "WEBP")])
def test_masks_that_lost_their_values_are_refused_whatever_their_name(
    suffix: str, format_: str, tmp_path: Path
) -> None:
    path = tmp_path / f"m.{suffix}"
    Image.fromarray(noise((24, 32)) % 4).save(path, format=format_)
    with pytest.raises(InputError, match=rf"m\.{suffix} is {format_}, which changes values along edges"):
        _images.read_mask(path)


def test_two_files_of_one_name_are_refused_and_litter_is_not_seen(tmp_path: Path) -> None:
    tiny.scenes(tmp_path, count=2)
    for litter in ("._000.png", ".DS_Store", "Thumbs.db"):
        (tmp_path / "images" / litter).write_bytes(b"litter")
        (tmp_path / "masks" / litter).write_bytes(b"litter")
    assert [(a.name, b.name) for a, b in segmentation.find_pairs(tmp_path)] == [
        ("000.png", "000.png"),
        ("001.png",) * 2,
    ]
    Image.fromarray(noise()).save(tmp_path / "images" / "001.webp")
    with pytest.raises(InputError, match=r"001\.png and 001\.webp: one name, two files"):
        segmentation.find_pairs(tmp_path)


# --- in memory ---


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (noise() / 255, r"found float64 \[24, 32, 3\]"),
        (noise().astype(np.float32), "found float32"),
        (noise().astype(np.uint16), "found uint16"),
        (noise((24, 32)), r"found uint8 \[24, 32\]"),
        (noise((24, 32, 4)), r"found uint8 \[24, 32, 4\]"),
        (noise((3, 24, 32)), r"found uint8 \[3, 24, 32\]"),
        (noise((0, 32, 3)), r"found uint8 \[0, 32, 3\]"),
        (7, "found int"),
    ],
    ids=["0 to 1", "float", "16 bit", "gray", "RGBA", "channels first", "empty", "a number"],
)
def test_arrays_of_another_form_are_refused(raw: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        _images.from_memory(raw)


def test_every_way_to_hand_an_image_over_gives_the_same(tmp_path: Path) -> None:
    image = noise()
    Image.fromarray(image).save(tmp_path / "x.png")
    for raw in (image, Image.fromarray(image), tmp_path / "x.png", str(tmp_path / "x.png")):
        np.testing.assert_array_equal(_images.from_memory(raw), image)


# --- the checkpoint's processor ---


@pytest.mark.parametrize("resample", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("changes", [{}, {"do_rescale": False}, {"do_normalize": False}, {"rescale_factor": 1 / 127.5}])
@pytest.mark.parametrize("size", [64, "32x96"])
def test_pixels_are_those_of_transformers_whatever_the_settings(
    resample: int, changes: dict[str, Any], size: int | str, tmp_path: Path
) -> None:
    folder = settings(tmp_path / "c", resample=resample, **changes)
    recipe = recipe_for("segformer", tmp_path, folder, tmp_path, shapes__image_size=size)
    raw = [(noise((48, 80, 3), seed), np.zeros((48, 80), np.uint8)) for seed in range(2)]
    found, labels = segmentation.encode(folder, recipe, raw)
    assert found["pixel_values"].shape[2:] == labels["mask"].shape[1:] == recipe.shapes.image_size
    own = segmentation.own_encoding(folder, recipe, raw)
    assert processing_check.differences(found, own) == []
    processing_check.check(segmentation, folder, folder, recipe, raw)


def test_a_processor_that_does_not_resize_takes_images_of_one_size(tmp_path: Path) -> None:
    processing = _image_processing.read(settings(tmp_path / "c", do_resize=False))
    assert processing.pixel_values(noise((64, 64, 3)), (64, 64)).shape == (3, 64, 64)
    with pytest.raises(InputError, match=r"an image of 80×48 pixels for an engine of 64×64.*do_resize = false"):
        processing.pixel_values(noise((48, 80, 3)), (64, 64))


@pytest.mark.parametrize("name", ["do_center_crop", "do_pad", "do_flip_channel_order", "do_something_new"])
def test_what_is_not_followed_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"asks for {name}, which is not done here"):
        _image_processing.read(settings(tmp_path / "c", **{name: True}))
    _image_processing.read(settings(tmp_path / "c", **{name: False}))


@pytest.mark.parametrize(
    "changes", [{"resample": 9}, {"image_mean": [0.1, 0.2]}, {"image_std": "x"}, {"resample": "2"}]
)
def test_settings_of_no_use_are_named(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no usable image_mean, image_std, rescale_factor and resample"):
        _image_processing.read(settings(tmp_path / "c", **changes))


def test_one_number_counts_for_every_channel(tmp_path: Path) -> None:
    processing = _image_processing.read(settings(tmp_path / "c", image_mean=0.5, image_std=0.25))
    assert processing.mean.tolist() == [0.5] * 3 and processing.std.tolist() == [0.25] * 3


def test_pixels_come_back() -> None:
    image = noise((32, 32, 3))
    np.testing.assert_allclose(PLAIN.image(PLAIN.pixel_values(image, (32, 32)).transpose(1, 2, 0)), image, atol=1e-3)
