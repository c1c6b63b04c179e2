"""Sliding windows against mmsegmentation's slide_inference written out, and from a recipe to the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers import tiny
from helpers.command_line import Cli
from helpers.runs import WAIVED, options_of, recipe_for, snapshot
from helpers.usable import USABLE
from pipeline import build, load_engine
from pipeline.checkpoint import EMBEDDED
from pipeline.errors import InputError
from pipeline.model import loading, processing_check
from pipeline.model.encoded import FEW, Encoded
from pipeline.recipe import Recipe
from pipeline.report import summary
from pipeline.tasks import _image_processing, _iou, _label_maps, _windows
from pipeline.tasks import semantic_segmentation as segmentation
from pipeline.tasks._windows import Slide


def slide_inference(image: np.ndarray, crop: tuple[int, int], stride: tuple[int, int], encode_decode: Any) -> Any:
    """Returns logits [1, C, H, W] as `EncoderDecoder.slide_inference` of mmsegmentation 1.x makes them."""
    import torch
    from torch.nn import functional

    (h_stride, w_stride), (h_crop, w_crop), (h_img, w_img) = stride, crop, image.shape[2:]
    h_grids = max(h_img - h_crop + h_stride - 1, 0) // h_stride + 1
    w_grids = max(w_img - w_crop + w_stride - 1, 0) // w_stride + 1
    preds, count_mat = 0, torch.zeros(1, 1, h_img, w_img)
    for h_idx in range(h_grids):
        for w_idx in range(w_grids):
            y1, x1 = h_idx * h_stride, w_idx * w_stride
            y2, x2 = min(y1 + h_crop, h_img), min(x1 + w_crop, w_img)
            y1, x1 = max(y2 - h_crop, 0), max(x2 - w_crop, 0)
            logits = torch.from_numpy(encode_decode(image[:, :, y1:y2, x1:x2]))
            logits = functional.interpolate(logits, size=crop, mode="bilinear", align_corners=False)
            preds = preds + functional.pad(logits, (x1, w_img - x2, y1, h_img - y2))
            count_mat[:, :, y1:y2, x1:x2] += 1
    assert not (count_mat == 0).any()
    return (preds / count_mat).numpy()


def network(pixels: np.ndarray) -> np.ndarray:
    """Returns logits [N, 5, h/4, w/4] that depend on where in its window a pixel lies, as a network's do."""
    rng = np.random.default_rng(0)
    mixed = np.einsum("nchw,kc->nkhw", pixels[:, :, ::4, ::4], rng.standard_normal((5, 3)))
    down, along = (np.linspace(-1, 1, side) for side in mixed.shape[2:])
    return np.asarray(mixed + down[:, None] * along * np.arange(5)[:, None, None], np.float32)


def cut(slide: Slide, *images: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns the windows of images float [H, W, 3], channels first, and their labels."""
    pairs = [(image, (image[..., 0] > 0).astype(np.uint8)) for image in images]
    windows, parts = zip(*slide.cut(pairs), strict=True)
    return np.stack(windows).transpose(0, 3, 1, 2), _windows.labels(parts)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((height, width, 3)).astype(np.float32)


# --- against the published evaluation ---


@pytest.mark.parametrize(
    ("size", "window", "stride"),
    [
        ((64, 64), (64, 64), (48, 48)),
        ((64, 128), (64, 64), (48, 48)),
        ((100, 150), (64, 32), (32, 32)),
        ((130, 97), (32, 64), (32, 33)),
        ((96, 96), (32, 32), (20, 7)),
    ],
    ids=str,
)
def test_windows_are_blended_as_mmsegmentation_blends_them(
    size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]
) -> None:
    image = picture(*size)
    windows, labels = cut(Slide(window, stride), image)
    expected = slide_inference(image.transpose(2, 0, 1)[None], window, stride, network)[0]
    (found,) = segmentation.predict({"logits": network(windows)}, labels)
    top = np.sort(expected, axis=0)
    clear = top[-1] - top[-2] > 1e-4  # two classes that tie may fall either way
    assert found.shape == size and clear.mean() > 0.99
    np.testing.assert_array_equal(found[clear], expected.argmax(0)[clear])


def test_one_window_is_the_plain_label_map() -> None:
    windows, labels = cut(Slide((64, 96), (32, 32)), picture(64, 96))
    logits = network(windows)
    (found,) = segmentation.predict({"logits": logits}, labels)
    np.testing.assert_array_equal(found, _label_maps.label_map(logits[0], 64, 96))
    np.testing.assert_array_equal(found, segmentation.predict({"logits": logits}, {"mask": labels["mask"]})[0])


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 9), st.integers(0, 40), st.integers(1, 9))
def test_windows_cover_everything_and_end_with_the_image(window: int, more: int, stride: int) -> None:
    side, stride = window + more, min(stride, window)
    places = Slide((window, 1), (stride, 1)).places((side, 1))
    tops = [top for top, _ in places]
    assert tops[0] == 0 and tops[-1] == side - window and tops == sorted(set(tops))
    assert {y for top in tops for y in range(top, top + window)} == set(range(side))
    assert all(top == i * stride for i, top in enumerate(tops[:-1])), "only the last is moved back"


# --- what a window is a part of ---


def test_masks_and_images_come_back_whole() -> None:
    images = picture(40, 70, 1), picture(64, 33, 2)
    windows, labels = cut(Slide((32, 32), (24, 20)), *images)
    assert labels["mask"].shape == (len(windows), 32, 32) and len(set(labels["image"])) == 2
    assert _windows.are_in(labels) and not _windows.are_in({"mask": labels["mask"]})
    for image, mask, whole in zip(
        images, _iou.masks(labels), _windows.whole(windows.transpose(0, 2, 3, 1), labels, 0), strict=True
    ):
        np.testing.assert_array_equal(mask, image[..., 0] > 0)
        np.testing.assert_array_equal(whole, image)


def test_images_that_are_encoded_a_few_at_a_time_stay_apart(
    checkpoints: dict[str, Path], scenes: Path, tmp_path: Path
) -> None:
    """And the same image twice is two images."""
    checkpoint = checkpoints["segformer"]
    recipe = recipe_of(checkpoint, scenes, tmp_path, verification__samples=2, calibration__samples=FEW + 3)
    raw = segmentation.samples(recipe, loading.open_source(recipe).config, "calibration", FEW + 3, folder=checkpoint)
    (tmp_path / "kept").mkdir()
    _, labels = Encoded.write(tmp_path / "kept", segmentation, recipe, checkpoint, [*raw, raw[0]]).read()
    masks = _iou.masks(labels)
    assert len(masks) == FEW + 4 and len(labels["mask"]) == 6 * len(masks)
    for (_, mask), found in zip([*raw, raw[0]], masks, strict=True):
        np.testing.assert_array_equal(found, mask)
    _, labels = segmentation.encode(checkpoint, recipe, [raw[0], raw[0]])
    assert len(segmentation.predict({"logits": np.zeros((12, 4, 16, 16), np.float32)}, labels)) == 2


def test_what_no_window_covers_is_neither_right_nor_wrong() -> None:
    """Batches are checked on the first windows alone, the same ones again where there are fewer."""
    windows, labels = cut(Slide((32, 32), (32, 32)), picture(64, 64))
    rows = [0, 1, 0]
    few = {name: value[rows] for name, value in labels.items()}
    (found,) = segmentation.predict({"logits": network(windows[rows])}, few)
    (whole,) = segmentation.predict({"logits": network(windows)}, labels)
    np.testing.assert_array_equal(found[:32], whole[:32])
    assert (found[32:] == 255).all() and (_iou.masks(few)[0][32:] == 255).all()
    other = found.copy()
    other[0, :8] = (other[0, :8] + 1) % 5
    assert segmentation.agreement([found], [other]) == 1 - 8 / (32 * 64)
    known = {**few, "class_names": np.array(list("abcde"))}
    assert segmentation.tally([found], known)[0, 5:10].sum() == 32 * 64, "truth is counted where a window lies"


def test_scores_are_of_whole_images() -> None:
    images = picture(40, 70, 1), picture(64, 33, 2)
    windows, labels = cut(Slide((32, 32), (24, 20)), *images)
    labels["class_names"] = np.array(list("abcde"))
    found = segmentation.predict({"logits": network(windows)}, labels)
    tally = segmentation.tally(found, labels)
    assert tally.shape == (2, 15) and tally[:, 5:10].sum(1).tolist() == [40 * 70, 64 * 33]
    truth = np.concatenate([(image[..., 0] > 0).ravel() for image in images]).astype(int)
    from sklearn.metrics import jaccard_score

    flat = np.concatenate([one.ravel() for one in found])
    assert segmentation.score(found, labels) == pytest.approx(jaccard_score(truth, flat, average="macro"))
    rows = segmentation.examples({"pixel_values": windows}, labels, found, [found[0], 1 - found[1]], 2)
    np.testing.assert_array_equal(rows[0]["pixel_values"], images[1].transpose(2, 0, 1))
    assert rows[0]["agreement"] < rows[1]["agreement"] == 1 and rows[1]["label"].shape == (40, 70)


# --- recipes ---


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    return tiny.scenes(tmp_path / "scenes", count=16, size=(80, 120))


def recipe_of(checkpoint: Path, scenes: Path, folder: Path, **more: object) -> Recipe:
    return recipe_for("segformer", folder / "out", checkpoint, scenes, shapes__window_stride=40, **more)


def test_a_stride_that_leaves_gaps_is_refused(
    cli: Cli, checkpoints: dict[str, Path], scenes: Path, tmp_path: Path
) -> None:
    options = options_of(recipe_for("segformer", tmp_path / "out", checkpoints["segformer"], scenes))
    answer = cli("quantize", "segformer", *options, "--set", "shapes.window_stride=64x65")
    assert answer.code == 2 and answer.err.count("error: ") == 1 and snapshot(tmp_path / "out") == {}
    assert "window_stride = 64x65 leaves pixels between windows of 64; give at most that" in answer.err
    unsized = Recipe.load("segformer", overrides={"shapes.window_stride": 96})
    with pytest.raises(InputError, match="window_stride = 96 leaves pixels between windows of 64"):
        unsized.with_image_size(64)
    with pytest.raises(InputError, match=r"window_stride = 'far': expected pixels"):
        unsized.with_window_stride("far")


def test_an_image_smaller_than_a_window_is_named(
    cli: Cli, checkpoints: dict[str, Path], scenes: Path, tmp_path: Path
) -> None:
    for kind in ("images", "masks"):
        path = scenes / kind / "003.png"
        Image.open(path).crop((0, 0, 120, 63)).save(path)
    recipe = recipe_of(checkpoints["segformer"], scenes, tmp_path)
    answer = cli("quantize", "segformer", *options_of(recipe), "--set", "shapes.window_stride=40")
    assert answer.code == 2 and answer.err.count("error: ") == 1 and snapshot(recipe.folder) == {}
    assert "images/003.png: 120×63 is smaller than a window of 64×64 (width×height)" in answer.err
    assert "images are resized; or take a smaller shapes.image_size" in answer.err


def test_windows_are_held_against_the_checkpoints_own_processor(
    checkpoints: dict[str, Path], scenes: Path, tmp_path: Path
) -> None:
    checkpoint = checkpoints["segformer"]
    recipe = recipe_of(checkpoint, scenes, tmp_path)
    raw = segmentation.samples(recipe, loading.open_source(recipe).config, "calibration", 8, folder=checkpoint)
    found = processing_check.check(segmentation, checkpoint, checkpoint, recipe, raw[:2])["pixel_values"]
    assert found.shape == (2 * 2 * 3, 3, 64, 64), "2 × 3 windows lie on each image"
    image = _image_processing.read(checkpoint).pixel_values(raw[0][0], (80, 120))
    np.testing.assert_array_equal(found[1], image[:, :64, 40:104])


@pytest.mark.parametrize(("image_size", "expected"), [(256, (512, 512)), ("256x544", (512, 544)), (544, (544, 544))])
def test_drawn_scenes_are_larger_than_windows(image_size: int | str, expected: tuple[int, int]) -> None:
    """Of the size that the embedded checkpoint's own processor has, 512×512."""
    given = {"shapes.image_size": image_size, "shapes.window_stride": 128}
    recipe = Recipe.load("segformer", overrides=given)
    config = loading.open_source(recipe).config
    ((image, mask),) = segmentation.samples(recipe, config, "evaluation", 1, folder=EMBEDDED / "segformer")
    assert image.shape[:2] == mask.shape == expected


@pytest.mark.parametrize("backend", USABLE)
def test_an_engine_that_is_verified_and_answers_by_windows(
    backend: str, checkpoints: dict[str, Path], scenes: Path, tmp_path: Path
) -> None:
    more = {"shapes.batches": [1, 3], "verification.runs": 5, "backend": backend, **WAIVED}
    recipe = recipe_of(checkpoints["segformer"], scenes, tmp_path, **more)
    report = build(recipe)
    assert (report["verdict"], report["reasons"]) == ("pass", [])
    assert report["accuracy"]["samples"] == 8, "images, of 6 windows each"
    assert report["latency"]["shape"] == [1, 3, 64, 64] and report["parity"]["faults"] == []
    assert report["image_size"]["window_stride"] == {"height": 40, "width": 40}
    assert summary.images(report) == "windows of 64×64 slide over images, which keep their size, 40×40 apart"
    page = (recipe.folder / "report.html").read_text(encoding="utf-8")
    assert "could not be drawn" not in page and "windows of 64×64" in page

    engine = load_engine(recipe.folder, threads=1)
    path = scenes / "images" / "000.png"
    (found,) = engine.run(path)
    image = np.asarray(Image.open(path))
    pixels = _image_processing.read(checkpoints["segformer"]).pixel_values(image, (80, 120))[None]

    def logits(crop: np.ndarray) -> Any:
        return engine({"pixel_values": np.ascontiguousarray(crop)})["logits"]

    for stride, label_map in ((40, found), (32, engine.run(path, window_stride=32)[0])):
        expected = slide_inference(pixels, (64, 64), (stride, stride), logits)[0]
        top = np.sort(expected, axis=0)
        clear = top[-1] - top[-2] > 1e-4
        np.testing.assert_array_equal(label_map[clear], expected.argmax(0)[clear])
    crop = image[:64, :64]
    (one,) = engine.run(crop)
    outputs = logits(pixels[:, :, :64, :64])
    np.testing.assert_array_equal(one, _label_maps.label_map(outputs[0], 64, 64))
    several = engine.run([path, crop])
    assert [label_map.shape for label_map in several] == [(80, 120), (64, 64)]
    np.testing.assert_array_equal(several[0], found)
    with pytest.raises(InputError, match="window_stride = 65 leaves pixels between windows of 64"):
        engine.run(path, window_stride=65)
    with pytest.raises(InputError, match=r"image 1: 60×60 is smaller than a window of 64×64"):
        engine.run(crop[:60, :60])
