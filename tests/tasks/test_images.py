"""Folders of images and masks as they come: litter is not seen, everything else that is no image or mask is named."""

from __future__ import annotations

import gzip
import json
import logging
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers import tiny
from helpers.runs import recipe_for
from pipeline.errors import InputError
from pipeline.tasks import _images
from pipeline.tasks import semantic_segmentation as segmentation

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
LITTER = ("._000.png", ".DS_Store", "Thumbs.db", "desktop.ini", ".hidden.png", "README.md")
READERS = (_images.read_image, _images.read_mask)
Damage = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.scenes(tmp_path / "scenes", count=3)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def with_chunk(path: Path, name: bytes, content: bytes, *, last: bool = False) -> None:
    """Puts a chunk behind a PNG's header, or before its end."""
    whole = path.read_bytes()
    at = len(whole) - 12 if last else 33
    path.write_bytes(whole[:at] + chunk(name, content) + whole[at:])


LARGE = zlib.compress(b"x" * (2 << 20))
FILES: dict[str, tuple[Damage, str]] = {
    "empty": (lambda p: p.write_bytes(b""), "cannot be read as an image: it is empty"),
    "a pointer": (lambda p: p.write_bytes(POINTER), "it is a Git LFS pointer, not the file itself: run `git lfs pull`"),
    "compressed": (lambda p: p.write_bytes(gzip.compress(p.read_bytes())), "it is gzip-compressed: unpack it"),
    "text": (lambda p: p.write_bytes(b"<html>"), "cannot identify image file"),
    "cut": (lambda p: p.write_bytes(p.read_bytes()[:-40]), "cannot be read as an image: "),
    "a large text": (lambda p: with_chunk(p, b"zTXt", b"a\0\0" + LARGE), "too large.* Save it again, without its meta"),
    "a large text at the end": (lambda p: with_chunk(p, b"zTXt", b"a\0\0" + LARGE, last=True), "too large"),
    "a large international text": (lambda p: with_chunk(p, b"iTXt", b"a\0\1\0\0\0" + LARGE), "too large"),
    "a large profile": (lambda p: with_chunk(p, b"iCCP", b"a\0\0" + LARGE), "too large"),
    "a damaged header": (lambda p: p.write_bytes(p.read_bytes()[:16] + b"\0" * 8 + p.read_bytes()[24:]), "cannot be"),
    "a folder": (lambda p: (p.unlink(), p.mkdir()), "cannot be read"),
    "missing": (lambda p: p.unlink(), "cannot be read: No such file"),
    "a loop": (lambda p: (p.unlink(), p.symlink_to(p)), "cannot be read: Too many levels of symbolic links"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("read", READERS)
def test_a_file_that_is_no_image_is_named(case: str, read: Callable[[Path], Any], folder: Path) -> None:
    damage, said = FILES[case]
    path = folder / "masks" / "000.png"
    damage(path)
    with pytest.raises(InputError, match=rf"000\.png.*{said}"):
        read(path)


@pytest.mark.parametrize("fault", [KeyError("x"), struct.error("y"), IndexError("z"), MemoryError(), RuntimeError("w")])
@pytest.mark.parametrize("at", ["open", "load"])
def test_whatever_pil_raises_is_told_with_the_file(
    fault: Exception, at: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr("PIL.Image.open" if at == "open" else "PIL.ImageOps.exif_transpose", fail)
    for read in READERS:
        with pytest.raises(InputError, match=r"000\.png cannot be read as an image: "):
            read(folder / "masks" / "000.png")


def test_damaged_exif_says_nothing_and_the_image_is_read(folder: Path) -> None:
    path = folder / "images" / "000.jpg"
    for seed in range(40):
        rng = np.random.default_rng(seed)
        exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12" + rng.bytes(20)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path, exif=exif)
        assert _images.read_image(path).shape == (8, 8, 3)


def test_litter_is_not_seen(folder: Path) -> None:
    for kind in ("images", "masks"):
        for name in LITTER:
            (folder / kind / name).write_bytes(b"litter")
        (folder / kind / "__MACOSX").mkdir()
    assert [a.name for a, _ in segmentation.find_pairs(folder)] == ["000.png", "001.png", "002.png"]


def only_litter(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.rename(path.with_name(f"._{path.name}"))


def in_folders(folder: Path) -> None:
    (folder / "images").rename(folder / "moved")
    (folder / "images").mkdir()
    (folder / "moved").rename(folder / "images" / "train")


FOLDERS: dict[str, tuple[Damage, str]] = {
    "only litter": (only_litter, r"images has no images \(\.png, .*\); it is empty"),
    "images in folders": (in_folders, r"has no images .*; it holds train/\."),
    "of another type": (
        lambda f: [p.rename(p.with_suffix(".tif")) for p in (f / "images").iterdir()],
        r"has no images .*; it holds 000\.tif, 001\.tif, 002\.tif",
    ),
    "another name": (lambda f: (f / "masks").rename(f / "labels"), "no folder 'masks'; .* it holds images/, labels/"),
    "masks of other names": (
        lambda f: [p.rename(p.with_name(f"{p.stem}_mask.png")) for p in (f / "masks").iterdir()],
        "3 images have no mask of the same name, the first is '000'. Did you mean 000_mask",
    ),
    "a folder as an image": (lambda f: (f / "images" / "x.png").mkdir(), r"x\.png is a folder where an image is"),
    "a link to nothing": (
        lambda f: (f / "masks" / "x.png").symlink_to(f / "gone"),
        r"x\.png is a link that leads nowhere where an image is expected",
    ),
    "a link to itself": (lambda f: (f / "images" / "x.png").symlink_to(f / "images" / "x.png"), "leads nowhere"),
    "names of two lines": (
        lambda f: (f / "images" / "a\nb.png").write_bytes(b"x"),
        r"1 images have no mask of the same name, the first is 'a\\nb'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLDERS)
def test_folders_of_another_form_are_told_by_what_they_hold(case: str, folder: Path) -> None:
    damage, said = FOLDERS[case]
    damage(folder)
    with pytest.raises(InputError, match=said) as caught:
        segmentation.find_pairs(folder)
    assert "\n" not in str(caught.value)


def test_a_message_names_a_file_on_one_line(folder: Path) -> None:
    for kind in ("images", "masks"):
        (folder / kind / "000.png").rename(folder / kind / "a\nb.png")
    (folder / "images" / "a\nb.png").write_bytes(POINTER)
    pair = next(p for p in segmentation.find_pairs(folder) if "\n" in p[0].name)
    with pytest.raises(InputError, match=r"a\\nb\.png' cannot be read as an image: it is a Git LFS pointer"):
        _images.read_image(pair[0])


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"PK\x03\x04", "is a ZIP archive"), (b"text", "is a file where a folder is expected"), (POINTER, "Git LFS")],
)
def test_a_file_is_no_folder_of_scenes(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(content)
    with pytest.raises(InputError, match=rf"data\.zip {said}|data\.zip is a {said}.*expected images/ and masks/"):
        segmentation.find_pairs(tmp_path / "data.zip")


def test_masks_without_an_image_are_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "images" / "001.png").unlink()
    with caplog.at_level(logging.WARNING, "pipeline"):
        assert len(segmentation.find_pairs(folder)) == 2
    assert "1 masks have no image and are not used, the first is '001'" in caplog.text


def samples(folder: Path, split: str, checkpoint: Path, **config: Any) -> list[segmentation.Sample]:
    recipe = recipe_for("segformer", folder, checkpoint, folder, verification__samples=2, calibration__samples=1)
    found = {**json.loads((checkpoint / "config.json").read_text(encoding="utf-8")), **config}
    return segmentation.samples(recipe, found, split, 1, folder=checkpoint)


def test_masks_of_ignored_pixels_alone_judge_nothing(folder: Path, checkpoints: dict[str, Path]) -> None:
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.full((64, 64), 255, np.uint8)).save(path)
    for split in ("evaluation", "calibration"):
        found = samples(folder, split, checkpoints["segformer"])
        recipe = recipe_for("segformer", folder, checkpoints["segformer"], folder)
        _, labels = segmentation.encode(checkpoints["segformer"], recipe, found)
        assert "all are ignored" in str(segmentation.unjudgeable(labels)), "what quantize asks of what judges"


def test_an_engine_takes_no_empty_list(checkpoints: dict[str, Path], folder: Path) -> None:
    recipe = recipe_for("segformer", folder, checkpoints["segformer"], folder)
    with pytest.raises(InputError, match="found an empty list"):
        segmentation.preprocess(checkpoints["segformer"], [], recipe)
