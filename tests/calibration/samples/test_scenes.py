"""Drawn scenes: the same everywhere, varied, not told apart by colour, and learnt by the checkpoint."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibration.samples import scenes, seeds
from calibration.samples.scenes import CLASSES, draw_scene, write_scenes

CHECKPOINT = Path(scenes.__file__).parents[2] / "pipeline" / "checkpoints" / "segformer"

# Share of each class in per mille at 128 x 128. Regenerate with
#   python -c "from tests.calibration.samples.test_scenes import *; print({seed: shares(seed) for seed in GOLDEN})"
GOLDEN = {
    3: [279, 0, 205, 56, 0, 278, 50, 3, 100, 22, 8, 0],
    1000001: [330, 0, 405, 81, 0, 88, 16, 0, 49, 32, 0, 0],
    2000002: [340, 42, 221, 0, 83, 0, 232, 59, 0, 10, 14, 0],
}


def shares(seed: int) -> list[int]:
    labels = draw_scene(seed, 128)[1]
    return [round(1000 * float((labels == label).mean())) for label in range(len(CLASSES))]


@pytest.fixture(scope="module")
def drawn() -> list[tuple[np.ndarray, np.ndarray]]:
    return [draw_scene(seed, 192) for seed in range(40)]


@pytest.mark.parametrize("size", [96, 256, 512])
def test_a_scene_is_an_image_and_a_label_for_every_pixel(size: int) -> None:
    image, labels = draw_scene(11, size)
    assert image.shape == (size, size, 3) and image.dtype == np.uint8
    assert labels.shape == (size, size) and labels.dtype == np.uint8
    assert labels.max() < len(CLASSES)
    assert image.std() > 10


def test_a_seed_decides_everything() -> None:
    first, again, other = draw_scene(5, 128), draw_scene(5, 128), draw_scene(6, 128)
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert (first[1] != other[1]).mean() > 0.05


@pytest.mark.parametrize("seed", GOLDEN)
def test_scenes_are_the_same_on_every_machine(seed: int) -> None:
    # A library may round an edge differently, so a few pixels are allowed to change sides.
    np.testing.assert_allclose(shares(seed), GOLDEN[seed], atol=3)


def test_every_class_occurs_often(drawn: list[tuple[np.ndarray, np.ndarray]]) -> None:
    assert len(CLASSES) >= 10 and len(scenes.PALETTE) == len(CLASSES) == len(set(scenes.PALETTE))
    present = np.array([[(labels == label).any() for label in range(len(CLASSES))] for _, labels in drawn])
    pixels = np.mean([np.bincount(labels.ravel(), minlength=len(CLASSES)) for _, labels in drawn], axis=0)
    rare = {CLASSES[i]: int(n) for i, n in enumerate(present.sum(0)) if n < 8}
    assert not rare, f"classes seen in fewer than 8 of 40 scenes: {rare}"
    assert (pixels / pixels.sum()).min() > 0.005


def test_scenes_differ_in_light_and_layout(drawn: list[tuple[np.ndarray, np.ndarray]]) -> None:
    brightness = np.array([image.mean() for image, _ in drawn])
    sky = np.array([(labels == 0).mean() for _, labels in drawn])
    assert np.ptp(brightness) > 60 and brightness.std() > 12
    assert np.ptp(sky) > 0.25


def test_colour_alone_does_not_tell_the_classes_apart(drawn: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """The best class of each of 4096 colours, learnt on 30 scenes, says little about ten others."""
    counts = np.zeros((4096, len(CLASSES)))
    for image, labels in drawn[:30]:
        np.add.at(counts, (_colour(image), labels), 1)
    best = counts.argmax(1)
    hits = np.zeros((len(CLASSES), len(CLASSES)))
    for image, labels in drawn[30:]:
        np.add.at(hits, (labels, best[_colour(image)]), 1)
    union = hits.sum(0) + hits.sum(1) - hits.diagonal()
    assert np.mean(hits.diagonal() / union) < 0.3


def _colour(image: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(image.astype(int) // 16, -1, 0)
    return np.asarray(red * 256 + green * 16 + blue)


def test_training_calibration_and_evaluation_share_no_seed() -> None:
    score = json.loads((CHECKPOINT / "score.json").read_text())
    ranges = [
        range(seeds.TRAIN_SEED, seeds.TRAIN_SEED + score["training"]["scenes"]),
        range(seeds.CALIBRATION_SEED, seeds.CALIBRATION_SEED + 100_000),
        range(score["seeds"][0], score["seeds"][1] + 1),
    ]
    assert score["seeds"][0] == seeds.EVALUATION_SEED
    assert all(a[-1] < b[0] for a, b in pairwise(ranges))


def test_written_scenes_read_back(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "data", [4, 1_000_000], 64)
    names = sorted(p.name for p in (folder / "images").iterdir())
    assert names == sorted(p.name for p in (folder / "masks").iterdir()) == ["0000004.png", "1000000.png"]
    for seed, name in zip((4, 1_000_000), names, strict=True):
        image, labels = draw_scene(seed, 64)
        mask = Image.open(folder / "masks" / name)
        assert mask.mode == "L"
        assert np.array_equal(np.asarray(mask), labels)
        assert np.array_equal(np.asarray(Image.open(folder / "images" / name)), image)
    assert json.loads((folder / "classes.json").read_text()) == list(CLASSES)


def test_the_embedded_checkpoint_is_a_small_b0_with_these_classes() -> None:
    config = json.loads((CHECKPOINT / "config.json").read_text())
    assert config["architectures"] == ["SegformerForSemanticSegmentation"]
    assert (config["hidden_sizes"], config["depths"]) == ([32, 64, 160, 256], [2, 2, 2, 2])
    assert (config["num_attention_heads"], config["sr_ratios"]) == ([1, 2, 5, 8], [8, 4, 2, 1])
    assert tuple(config["id2label"][str(i)] for i in range(len(CLASSES))) == CLASSES
    assert (CHECKPOINT / "model.safetensors").stat().st_size <= 12 * 2**20
    assert json.loads((CHECKPOINT / "preprocessor_config.json").read_text())["size"] == {
        "height": 512,
        "width": 512,
    }


def test_the_embedded_checkpoint_scores_what_its_score_file_says() -> None:
    recorded = json.loads((CHECKPOINT / "score.json").read_text())
    assert recorded["value"] >= 0.80 and recorded["samples"] >= 100
    assert recorded["value"] == pytest.approx(np.mean(list(recorded["per_class_iou"].values())), abs=1e-3)
    pytest.importorskip("torch", reason="evaluating the checkpoint needs torch")
    from pipeline.checkpoints.segformer_score import score

    again = score(CHECKPOINT, samples=4)
    np.testing.assert_allclose(again["first_scenes"], recorded["first_scenes"][:4], atol=2e-3)
    assert again["value"] > recorded["value"] - 0.15  # four scenes lack some classes' variety
