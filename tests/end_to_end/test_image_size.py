"""The size of an engine's images: the recipe's, or where it names none that of the checkpoint's own processor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers import tiny
from helpers.command_line import Cli
from helpers.runs import WAIVED, options_of, recipe_for
from helpers.usable import USABLE
from pipeline import load_engine, stages
from pipeline.artifacts import Workspace
from pipeline.errors import InputError
from pipeline.model import loading, processing_check
from pipeline.recipe import Recipe
from pipeline.report import summary
from pipeline.run import Run
from pipeline.stages import build
from pipeline.tasks import _image_processing, semantic_segmentation

CopyOf = Callable[[str], Path]


def processor(folder: Path, **changes: Any) -> Path:
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")
    return folder


def unsized(folder: Path, data: Path, tmp_path: Path) -> Recipe:
    return recipe_for("segformer", tmp_path / "out", folder, data).with_image_size(None)


@pytest.mark.parametrize("size", [96, [96, 96], {"height": 96, "width": 96}], ids=str)
def test_the_checkpoints_own_size_is_taken(
    size: Any, copy_of: CopyOf, data: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = unsized(processor(copy_of("segformer"), size=size), data["segformer"], tmp_path)
    stages.run("quantize", recipe)
    assert Workspace(recipe.folder).manifest.recipe["shapes"]["image_size"] == 96
    assert stages.why_stale("quantize", recipe) == stages.why_stale("quantize", recipe.with_image_size(96)) == []
    assert "image" not in caplog.text, "there is nothing to say"
    sample = loading.random_inputs(loading.open_source(recipe), recipe)
    assert sample["pixel_values"].shape == (2, 3, 96, 96)


def test_later_stages_take_the_size_that_quantize_took(copy_of: CopyOf, data: dict[str, Path], tmp_path: Path) -> None:
    folder = processor(copy_of("segformer"), size=96)
    recipe = unsized(folder, data["segformer"], tmp_path)
    stages.run("quantize", recipe.with_image_size(64))
    (calibrate,) = stages.runs_for("calibrate", Run.of(recipe))
    (quantize,) = stages.runs_for("quantize", Run.of(recipe))
    assert (calibrate.recipe.shapes.image_size, quantize.recipe.shapes.image_size) == ((64, 64), (96, 96))


def test_a_checkpoint_that_names_none_has_the_usual_one(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    assert loading.sized(unsized(checkpoints["segformer"], tmp_path, tmp_path)).shapes.image_size == (512, 512)
    text = recipe_for("bert", tmp_path, checkpoints["bert"], tmp_path).with_image_size(None)
    assert loading.sized(text) is text


def test_the_embedded_checkpoint_keeps_its_size() -> None:
    assert loading.sized(Recipe.load("segformer")).shapes.image_size == (512, 512)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"size": {"shortest_edge": 64}}, r"size = \{'shortest_edge': 64\}.*one height.*--set shapes.image_size"),
        ({"size": {"height": 64, "width": 100}}, "image_size = 64x100 is not a multiple of 32.*are 64x96 and 64x128"),
        ({"size": 64, "default_to_square": False}, r"size = \{'shortest_edge': 64\}"),
        ({"size": {"height": 64}}, r"size = \{'height': 64\}"),
        ({"size": "64"}, "size = '64'; expected pixels"),
        ({"size": 64.0}, r"size = 64\.0; expected pixels"),
        ({"size": 0}, "size = 0; expected pixels"),
        ({"size": True}, "size = True; expected pixels"),
        ({"size": None}, "size = None; expected pixels"),
        ({"size": {}}, r"size = \{\}; expected pixels"),
        ({"size": [64, 64, 3]}, r"size = \[64, 64, 3\]; expected pixels"),
        ({"size": {"height": 64, "width": "64"}}, "expected pixels"),
        ({"size": 100}, r"image_size = 100 is not a multiple of 32.*that of the checkpoint's preprocessor_config.json"),
        ({"size": 32000}, "image_size = 32000.*less than or equal to 8192"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_size_that_no_engine_can_have_is_refused(
    changes: dict[str, Any], expected: str, copy_of: CopyOf, data: dict[str, Path], tmp_path: Path
) -> None:
    recipe = unsized(processor(copy_of("segformer"), **changes), data["segformer"], tmp_path)
    with pytest.raises(InputError, match=f"(?s){expected}"):
        stages.run("quantize", recipe)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (96, "has 96×96"),
        ({"height": 64, "width": 96}, "has height 64, width 96"),
        ({"shortest_edge": 64}, "has shortest_edge 64"),
    ],
    ids=str,
)
def test_another_size_that_is_asked_for_is_said(
    size: Any, said: str, copy_of: CopyOf, data: dict[str, Path], tmp_path: Path, cli: Cli
) -> None:
    recipe = recipe_for("segformer", tmp_path / "out", processor(copy_of("segformer"), size=size), data["segformer"])
    answer = cli("quantize", "segformer", *options_of(recipe))
    assert answer.code == 0
    assert (
        f"images are resized to 64×64, as shapes.image_size says; the checkpoint's own processor {said}" in answer.err
    )


def test_a_processor_that_does_not_resize_has_no_size_to_say(
    copy_of: CopyOf, data: dict[str, Path], tmp_path: Path, cli: Cli
) -> None:
    folder = processor(copy_of("segformer"), size=96, do_resize=False)
    recipe = recipe_for("segformer", tmp_path / "out", folder, data["segformer"])
    answer = cli("quantize", "segformer", *options_of(recipe))
    assert answer.code == 0 and "resized" not in answer.err
    with pytest.raises(InputError, match=r"an image of 64×64 pixels for an engine of 96×96.*do_resize = false"):
        stages.run("quantize", recipe.with_image_size(None))


def test_the_size_is_held_against_transformers(
    copy_of: CopyOf, data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ViT's processor has another size where its file names none."""
    folder = processor(copy_of("segformer"), image_processor_type="ViTImageProcessor")
    recipe = unsized(folder, data["segformer"], tmp_path)
    raw = semantic_segmentation.samples(recipe, {"id2label": dict.fromkeys(range(4))}, "calibration", 2, folder=folder)
    with pytest.raises(InputError, match=r"pixel_values has shape \[2, 3, 512, 512\] instead of \[2, 3, 224, 224\]"):
        processing_check.check(semantic_segmentation, folder, folder, recipe, raw[:2])
    processor(folder, size=64)
    assert processing_check.check(semantic_segmentation, folder, folder, recipe, raw[:2])["pixel_values"].shape[2] == 64


def test_the_page_names_both_sizes() -> None:
    size = {"engine": {"height": 64, "width": 64}, "checkpoint": {"height": 96, "width": 128}, "same": False}
    said = "images of 64×64, where the checkpoint's own processor has height 96, width 128"
    assert summary.images({"image_size": size}) == summary.images({"image_size": {**size, "engine": 64}}) == said
    for nothing in ({}, {"image_size": None}, {"image_size": {**size, "same": True}}):
        assert summary.images(nothing) == ""


def test_the_report_holds_both_sizes(copy_of: CopyOf, data: dict[str, Path], tmp_path: Path) -> None:
    from pipeline.report import sections

    recipe = recipe_for("segformer", tmp_path / "out", processor(copy_of("segformer"), size=96), data["segformer"])
    stages.run("quantize", recipe)
    found = sections.image_size(Run.of(recipe))
    sizes = {"engine": {"height": 64, "width": 64}, "checkpoint": {"height": 96, "width": 96}}
    assert found == {**sizes, "same": False, "window_stride": None}
    same = sections.image_size(Run.of(recipe.with_image_size(96)))
    assert same is not None and same["same"]


WIDE = {"height": 64, "width": 96}


def test_the_checkpoints_own_size_may_be_of_any_aspect_ratio(
    copy_of: CopyOf, data: dict[str, Path], tmp_path: Path
) -> None:
    recipe = unsized(processor(copy_of("segformer"), size=WIDE), data["segformer"], tmp_path)
    stages.run("quantize", recipe)
    recorded = Workspace(recipe.folder).manifest.recipe
    assert recorded["shapes"]["image_size"] == "64x96"
    assert stages.why_stale("quantize", recipe) == stages.why_stale("quantize", recipe.with_image_size("64x96")) == []
    assert "shapes changed" in stages.why_stale("quantize", recipe.with_image_size("96x64"))[0]
    assert Recipe.load("segformer", overrides={**recorded, "folder": recipe.folder}).shapes.image_size == (64, 96)


@pytest.mark.parametrize("backend", USABLE)
def test_an_engine_of_images_that_are_not_square(backend: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """From the checkpoint to label maps, held against PyTorch's own model on the image processor's own pixels."""
    import torch
    from transformers import AutoImageProcessor, SegformerForSemanticSegmentation

    scenes = tiny.scenes(tmp_path / "scenes", count=16, size=(48, 96))
    more = {"shapes.image_size": "64x96", "shapes.batches": [1, 3], "verification.runs": 5, "backend": backend}
    recipe = recipe_for("segformer", tmp_path / "out", checkpoints["segformer"], scenes, **WAIVED, **more)
    report = build.build(recipe)
    assert report["verdict"] == "pass", report["reasons"]
    assert report["latency"]["shape"] == [1, 3, 64, 96] and report["parity"]["faults"] == []
    assert report["image_size"]["engine"] == WIDE and report["precision"] == "int8"
    assert "shapes.image_size" in summary.rebuild(report, report["recipe"], recipe.folder)

    engine = load_engine(recipe.folder)
    path = sorted((scenes / "images").iterdir())[0]
    inputs, _ = engine.preprocess(path)
    own = AutoImageProcessor.from_pretrained(checkpoints["segformer"], backend="pil", size=WIDE)
    pixels = own(Image.open(path), return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(inputs["pixel_values"], pixels, atol=1e-5)
    model = SegformerForSemanticSegmentation.from_pretrained(checkpoints["segformer"]).eval()
    with torch.no_grad():
        expected = model(torch.from_numpy(pixels)).logits.numpy()
    logits = engine(inputs)["logits"]
    assert logits.shape == expected.shape == (1, 4, 16, 24)
    assert np.square(logits - expected).sum() < 0.03 * np.square(expected).sum(), "that is int8's noise"
    assert engine.run(path).shape == (1, 64, 96)
    with pytest.raises(InputError, match=r"shape \[1, 3, 96, 64\]; expected finite floats \[batch, 3, 64, 96\]"):
        engine({"pixel_values": np.zeros((1, 3, 96, 64), np.float32)})


def test_described() -> None:
    assert (
        _image_processing.described({"shortest_edge": 64, "longest_edge": 128}) == "shortest_edge 64, longest_edge 128"
    )
