"""Optimization profiles from the recipe, and the trtexec line that says the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import qdq_models as models
from pipeline.backends import tensorrt
from pipeline.backends._tensorrt import api
from pipeline.backends._tensorrt import shapes as shapes
from pipeline.checkpoint.image_size import ImageSize
from pipeline.errors import InputError
from pipeline.recipe import Shapes

BERT = {"input_ids": (-1, -1), "attention_mask": (-1, -1)}
SEGFORMER = {"pixel_values": (-1, 3, 512, 512)}


def sizes(*batches: int) -> Shapes:
    return Shapes(sequence_length=128, image_size=ImageSize(256, 256), batches=batches)


def test_batch_one_has_a_profile_of_its_own() -> None:
    one, more = shapes.profiles(BERT, sizes(1, 8, 32))
    assert one == dict.fromkeys(BERT, ((1, 128),) * 3)
    assert more == dict.fromkeys(BERT, ((2, 128), (32, 128), (32, 128)))


def test_images_keep_their_size() -> None:
    assert shapes.profiles(SEGFORMER, sizes(1))[0]["pixel_values"] == ((1, 3, 512, 512),) * 3
    opened = {"pixel_values": (-1, 3, -1, -1)}
    assert shapes.profiles(opened, sizes(1))[0]["pixel_values"][0] == (1, 3, 256, 256)
    wide = sizes(1).model_copy(update={"image_size": ImageSize(256, 512)})
    assert shapes.profiles(opened, wide)[0]["pixel_values"][0] == (1, 3, 256, 512)
    assert shapes.profiles({"pixel_values": (-1, 3, 128, -1)}, wide)[0]["pixel_values"][0] == (1, 3, 128, 512)


def test_questions_have_as_many_choices_as_the_recipe_says() -> None:
    opened = dict.fromkeys(BERT, (-1, -1, -1))
    asked = sizes(1).model_copy(update={"choices": 5})
    assert shapes.profiles(opened, asked) == [dict.fromkeys(BERT, ((1, 5, 128),) * 3)]
    assert shapes.profiles({"x": (-1, -1, 64)}, asked) == [{"x": ((1, 128, 64),) * 3}], "a sequence of vectors"


def test_one_profile_where_nothing_is_open() -> None:
    assert shapes.profiles({"x": (4, 8)}, sizes(1, 8)) == [{"x": ((4, 8),) * 3}]
    assert len(shapes.profiles(BERT, sizes(1))) == 1


def test_open_channels_are_refused() -> None:
    with pytest.raises(InputError, match="channels of input 'pixel_values'"):
        shapes.profiles({"pixel_values": (-1, -1, 64, 64)}, sizes(1))


@pytest.mark.parametrize(("batch", "index"), [(1, 0), (2, 1), (7, 1), (32, 1)])
def test_every_batch_has_one_profile(batch: int, index: int) -> None:
    found = shapes.profiles(BERT, sizes(1, 32))
    assert shapes.serving(found, dict.fromkeys(BERT, (batch, 128))) == index


@pytest.mark.parametrize("shape", [(33, 128), (1, 127), (0, 128), (1, 128, 1)])
def test_other_shapes_name_the_profiles(shape: tuple[int, ...]) -> None:
    found = shapes.profiles(BERT, sizes(1, 32))
    listed = r"profile 0: input_ids 1x128 to 1x128.*\n.*profile 1: input_ids 2x128 to 32x128"
    with pytest.raises(InputError, match=listed):
        shapes.serving(found, {"input_ids": shape, "attention_mask": (1, 128)})


def line(tmp_path: Path, version: str | None, monkeypatch: pytest.MonkeyPatch, **more: object) -> list[str]:
    monkeypatch.setattr(api, "present", lambda: version)
    qdq = models.attention(tmp_path / "model.qdq.onnx")
    recipe = models.recipe(tmp_path, "tensorrt", **{"shapes.sequence_length": 12, "shapes.batches": (1, 4), **more})
    return tensorrt.trtexec(qdq, tmp_path / "model.plan", recipe)


def test_trtexec_of_8_6(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = line(tmp_path, "8.6.0", monkeypatch)
    assert found[0] == "trtexec"
    assert found[3:8] == [
        "--int8", "--fp16", "--minShapes=x:1x12x32", "--optShapes=x:1x12x32", "--maxShapes=x:4x12x32",
    ]  # fmt: skip
    assert not any(argument.startswith(("--profile=", "--stronglyTyped")) for argument in found)


@pytest.mark.parametrize(("version", "typed"), [(None, True), ("10.13.3", True), ("11.4.0", False)])
def test_trtexec_of_10_and_11(
    version: str | None, typed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = line(tmp_path, version, monkeypatch)
    assert ("--stronglyTyped" in found) == typed
    assert not {"--int8", "--fp16"} & set(found)
    at = found.index("--profile=1")
    assert found[at - 4] == "--profile=0" and found[at + 3] == "--maxShapes=x:4x12x32"


def test_trtexec_has_the_recipe_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"tensorrt.workspace_mib": 1024, "tensorrt.optimization_level": 5, "tensorrt.target": "8.6"}
    found = line(tmp_path, None, monkeypatch, **more)
    assert "--int8" in found and "--memPoolSize=workspace:1024" in found and "--builderOptimizationLevel=5" in found
    assert f"--onnx={tmp_path / 'model.qdq.onnx'}" in found and "--profilingVerbosity=detailed" in found
    assert f"--exportLayerInfo={tmp_path / 'model.layers.json'}" in found
