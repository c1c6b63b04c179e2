"""Image classification: from a checkpoint's folder to a verified engine, and what no model can be judged by."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers import tiny
from helpers.command_line import Cli
from helpers.runs import WAIVED, options_of, recipe_for, snapshot
from helpers.usable import USABLE
from pipeline import build, load_engine
from pipeline.errors import InputError
from pipeline.model import loading, processing_check
from pipeline.recipe import Recipe
from pipeline.tasks import image_classification as classification

NAMES = np.array(tiny.CLASSES)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.segformer(tmp_path_factory.mktemp("classifier"), "SegformerForImageClassification")


@pytest.fixture
def recipe(checkpoint: Path, tmp_path: Path) -> Recipe:
    return recipe_for("segformer", tmp_path / "out", checkpoint, tiny.photos(tmp_path / "photos"))


def labels(*indices: int) -> dict[str, np.ndarray]:
    return {"label": np.array(indices), "class_names": NAMES}


@pytest.mark.parametrize("backend", USABLE)
def test_from_a_checkpoint_to_a_verified_engine(backend: str, checkpoint: Path, recipe: Recipe) -> None:
    import torch
    from transformers import AutoImageProcessor, SegformerForImageClassification

    more = {"shapes.image_size": "64x96", "shapes.batches": [1, 3], "verification.runs": 5, "backend": backend}
    recipe = recipe_for("segformer", recipe.folder, checkpoint, Path(str(recipe.data)), **WAIVED, **more)
    report = build(recipe)
    assert (report["verdict"], report["reasons"]) == ("pass", [])
    found = report["accuracy"]
    assert (report["task"], found["metric"], found["samples"]) == ("image-classification", "accuracy", 8)
    assert found["classes"] == 4 and report["latency"]["shape"] == [1, 3, 64, 96]
    page = (recipe.folder / "report.html").read_text(encoding="utf-8")
    assert "could not be drawn" not in page and page.count('<img src="data:image/jpeg') == 8

    engine = load_engine(recipe.folder, threads=1)
    paths = sorted((Path(str(recipe.data)) / "car").iterdir())[:2]
    inputs, context = engine.preprocess(paths)
    size = {"height": 64, "width": 96}
    own = AutoImageProcessor.from_pretrained(checkpoint, backend="pil", size=size)
    pixels = own([Image.open(path) for path in paths], return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(inputs["pixel_values"], pixels, atol=1e-5)
    with torch.no_grad():
        model = SegformerForImageClassification.from_pretrained(checkpoint).eval()
        expected = model(torch.from_numpy(pixels)).logits.numpy()
    logits = engine(inputs)["logits"]
    assert np.square(logits - expected).sum() < 0.03 * np.square(expected).sum(), "that is int8's noise"
    assert engine.run(paths) == engine.postprocess({"logits": logits}, context)
    assert engine.run(paths[0]) == [tiny.CLASSES[int(logits[0].argmax())]]


def test_samples_are_images_with_the_index_of_their_folders_name(checkpoint: Path, recipe: Recipe) -> None:
    source = loading.open_source(recipe)
    raw = classification.samples(recipe, source.config, "evaluation", 8, folder=checkpoint)
    inputs, found = classification.encode(checkpoint, recipe, raw)
    assert len(raw) == 8 and inputs["pixel_values"].shape == (8, 3, 64, 64) and found["label"].dtype == np.int64
    for (_, index, name), label, shown in zip(raw, found["label"], found["image"], strict=True):
        assert index == label and name == shown and name.startswith(f"{tiny.CLASSES[index]}/")
    assert len(raw[2:5]) == 3 and raw[2:5][0][2] == raw[2][2]
    assert processing_check.check(classification, checkpoint, checkpoint, recipe, raw)["pixel_values"].shape[0] == 8


def test_another_processing_than_the_checkpoints_is_found(
    checkpoint: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path(shutil.copytree(checkpoint, tmp_path / "other"))
    file = other / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "image_mean": [0.4] * 3}), encoding="utf-8")
    raw = classification.samples(recipe, loading.open_source(recipe).config, "calibration", 2, folder=checkpoint)
    with pytest.raises(InputError, match=r"100\.0% of pixel_values.*preprocessor_config\.json asks for something"):
        processing_check.check(classification, checkpoint, other, recipe, raw[:2])


def test_the_score_is_scikit_learns_and_the_mean_of_the_tally() -> None:
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 4, 50), rng.integers(0, 4, 50)
    known = labels(*truth)
    assert classification.score(found, known) == classification.tally(found, known).mean() == (truth == found).mean()
    per_class = classification.per_class(classification.tally(found, known), known)
    assert per_class["tree"] == (found[truth == 2] == 2).mean()
    assert classification.agreement(truth, found) == (truth == found).mean()


def test_what_the_labels_can_prove() -> None:
    assert classification.unjudgeable(labels(2, 2, 2)) == "every image is labelled 'tree'"
    assert classification.unjudgeable(labels(2, 1)) is None
    assert classification.unseen(labels(2, 1)) == ["sky", "car"]
    (answer,) = classification.chance(np.array([0, 0, 0]), labels(2, 2, 1), np.zeros(3)).items()
    assert answer[0] == "'tree' for every image" and answer[1].tolist() == [1, 1, 0]


def test_examples_that_differ_come_first() -> None:
    pixels = np.arange(3, dtype=np.float32).reshape(3, 1, 1, 1)
    known = {**labels(0, 1, 2), "image": np.array(["a", "b", "c"])}
    rows = classification.examples({"pixel_values": pixels}, known, np.array([0, 1, 2]), np.array([0, 1, 3]), 2)
    assert [(row["name"], row["float"], row["engine"]) for row in rows] == [("c", "tree", "car"), ("a", "sky", "sky")]


# --- what cannot be used: exit code 2, one message, nothing written ---


def rename(old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / old).rename(folder / new)


def only(name: str) -> Callable[[Path], object]:
    return lambda folder: [shutil.rmtree(path) for path in folder.iterdir() if path.name != name]


def table(content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "t.csv").write_text(content, encoding="utf-8")


BAD: dict[str, tuple[Callable[[Path], object], str, dict[str, Any], list[str]]] = {
    "a class of another model": (rename("car", "lorry"), "", {}, [
        "folder 'lorry': label 'lorry' is not one of the checkpoint's", "Available: car, road"]),
    "splits instead of classes": (rename("car", "train"), "", {}, ["folder 'train': label 'train'"]),
    "no folders": (lambda f: [shutil.rmtree(p) for p in f.iterdir()], "", {}, ["has no folders", "it is empty"]),
    "an empty class": (lambda f: [p.unlink() for p in (f / "car").iterdir()], "", {}, ["car has no images"]),
    "a file that is no image": (
        lambda f: [p.write_bytes(b"text") for p in (f / "car").iterdir()], "", {},
        ["car/0", "cannot be read as an image"]),
    "one class alone": (
        only("car"), "", {"calibration.samples": 2, "verification.samples": 3},
        ["cannot judge: every image is labelled 'car'", "--set verification.samples"]),
    "too few": (lambda f: None, "", {"verification.samples": 1000}, ["has 24 samples", "evaluation takes 1000"]),
    "a table's label": (table("image,label\ncar/003.png,car\ncar/007.png,ship\n"), "t.csv", {}, [
        "t.csv line 3: label 'ship' is not one of the checkpoint's"]),
    "a table's image": (table("image,label\ncar/3.png,car\n"), "t.csv", {}, ["t.csv line 2: there is no image"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_data_that_cannot_be_used(case: str, recipe: Recipe, cli: Cli) -> None:
    damage, file, settings, said = BAD[case]
    folder = Path(str(recipe.data))
    damage(folder)
    recipe = recipe_for("segformer", recipe.folder, Path(str(recipe.checkpoint)), folder / file, **settings)
    answer = cli("quantize", "segformer", *options_of(recipe))
    assert answer.code == 2 and answer.out == "" and answer.err.count("error: ") == 1, answer
    assert "Traceback" not in answer.err and snapshot(recipe.folder) == {}
    for fragment in said:
        assert fragment in answer.err


def test_without_data_it_says_what_is_needed(checkpoint: Path, recipe: Recipe, cli: Cli) -> None:
    recipe = recipe.model_copy(update={"data": None})
    answer = cli("quantize", "segformer", *options_of(recipe))
    assert answer.code == 2 and "needs labelled images: give DATA=folder with a folder per class" in answer.err


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"id2label": {0: "all"}}, "the checkpoint has 1 output"),
        ({"problem_type": "multi_label_classification"}, "problem_type 'multi_label_classification'"),
        ({"problem_type": "regression"}, "problem_type 'regression'"),
    ],
)
def test_a_head_without_one_label_of_several_is_refused(config: dict[str, Any], said: str, recipe: Recipe) -> None:
    given = {"id2label": dict(enumerate(tiny.CLASSES)), **config}
    with pytest.raises(InputError, match=said):
        classification.samples(recipe, given, "calibration", 2, folder=Path(str(recipe.checkpoint)))
