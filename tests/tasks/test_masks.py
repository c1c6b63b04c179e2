"""What the values of masks mean: ignored labels as the checkpoint says, 16 bits for more than 255 classes."""

from __future__ import annotations

import json
import logging
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
from pipeline.report import overlays
from pipeline.tasks import _files, _iou, _label_maps, _masks
from pipeline.tasks import semantic_segmentation as segmentation
from pipeline.tasks._masks import Meaning

MANY = {i: f"class {i}" for i in range(300)}


def saved(path: Path, values: Any, dtype: Any = np.uint8) -> Path:
    Image.fromarray(np.asarray(values, dtype)).save(path)
    return path


def files(folder: Path, processor: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    content = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, **processor}
    (folder / "preprocessor_config.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def meaning(folder: Path, config: dict[str, Any] | None = None, classes: int = 4, **processor: Any) -> Meaning:
    names = {i: f"class {i}" for i in range(classes)}
    return Meaning.of(files(folder, processor), {"id2label": names, **(config or {})})


# --- which label is ignored ---


@pytest.mark.parametrize(
    ("config", "processor", "expected"),
    [
        ({}, {}, 255),
        ({"semantic_loss_ignore_index": 0}, {}, 0),
        ({"semantic_loss_ignore_index": -100}, {}, -100),
        ({}, {"ignore_index": 254}, 254),
        ({"semantic_loss_ignore_index": 254}, {"ignore_index": 254}, 254),
        ({"semantic_loss_ignore_index": None}, {"ignore_index": None}, 255),
    ],
)
def test_the_ignored_label_is_the_checkpoints(
    config: dict[str, Any], processor: dict[str, Any], expected: int, tmp_path: Path
) -> None:
    assert meaning(tmp_path, config, **processor).ignore == expected


def test_it_is_what_the_loss_of_transformers_ignores(tmp_path: Path) -> None:
    """A label that is ignored moves no loss, whatever the class that it would be."""
    import torch
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        num_labels=4, semantic_loss_ignore_index=3, depths=[1] * 4, hidden_sizes=[8] * 4,
        num_attention_heads=[1] * 4, decoder_hidden_size=8,
    )  # fmt: skip
    model = SegformerForSemanticSegmentation(config).eval()
    stored = np.random.default_rng(0).integers(0, 4, (64, 64))
    found = meaning(tmp_path, config.to_dict()).read(saved(tmp_path / "m.png", stored))
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = model(pixels, labels=torch.from_numpy(stored)[None])
    logits = torch.nn.functional.interpolate(output.logits, size=(64, 64), mode="bilinear", align_corners=False)
    judged = torch.from_numpy(found != _masks.nothing(found))
    own = torch.nn.functional.cross_entropy(logits[0][:, judged].T, torch.from_numpy(found.astype(int))[judged])
    assert float(own) == pytest.approx(float(output.loss), rel=1e-5)


def test_an_ignored_class_is_said_and_counted_as_never_seen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _files.say_once.cache_clear()
    with caplog.at_level(logging.INFO, "pipeline"):
        found = meaning(tmp_path, {"semantic_loss_ignore_index": 1})
    assert "class 1 (class 1) is not judged: it is the checkpoint's semantic_loss_ignore_index" in caplog.text
    mask = found.read(saved(tmp_path / "m.png", [[0, 1, 2, 3]]))
    assert mask.tolist() == [[0, 255, 2, 3]]
    labels = {"mask": mask[None], "class_names": np.array(["a", "b", "c", "d"])}
    assert segmentation.unseen(labels) == ["b"] and segmentation.unjudgeable(labels) is None


@pytest.mark.parametrize(
    ("config", "processor", "said"),
    [
        ({"semantic_loss_ignore_index": "255"}, {}, r"semantic_loss_ignore_index of .*config\.json is '255'; expected"),
        ({}, {"ignore_index": True}, r"ignore_index of .*preprocessor_config\.json is True; expected a label"),
        (
            {"semantic_loss_ignore_index": 0},
            {"ignore_index": 255},
            r"two labels that are not judged, 0 \(semantic_loss.*config\.json\) and 255 \(ignore_index.*make them one",
        ),
    ],
)
def test_settings_of_no_use_are_named(
    config: dict[str, Any], processor: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        meaning(tmp_path, config, **processor)


@pytest.mark.parametrize(
    ("found", "values", "said"),
    [
        (Meaning(4), [[4]], r"m\.png has labels \[4\] outside the 4 classes of the checkpoint \(0–3; 255 is ignored\)"),
        (Meaning(4, 0), [[255]], r"labels \[255\] outside the 4 classes of the checkpoint \(0–3; 0 is ignored\)"),
        (Meaning(4, -100), [[255]], r"\(0–3; nothing is ignored, as semantic_loss_ignore_index is -100\)"),
        (Meaning(4, reduces=True), [[5]], r"labels \[5\] outside the 4 classes of the checkpoint \(1–4; 255 is ign"),
    ],
)
def test_values_that_mean_nothing_are_named(found: Meaning, values: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        found.read(saved(tmp_path / "m.png", values))


# --- labels that are reduced ---


def test_reduced_labels_are_shifted_as_transformers_shifts_them(tmp_path: Path) -> None:
    from transformers import SegformerImageProcessor

    stored = np.random.default_rng(0).choice(np.array([0, 1, 2, 7, 8, 255], np.uint8), (64, 64))
    own = SegformerImageProcessor(do_reduce_labels=True, size={"height": 64, "width": 64})
    image = np.zeros((64, 64, 3), np.uint8)
    expected = np.asarray(own(image, segmentation_maps=stored.copy(), return_tensors="np")["labels"][0])
    path = saved(tmp_path / "m.png", stored)
    found = meaning(tmp_path, classes=8, do_reduce_labels=True).read(path)
    np.testing.assert_array_equal(found, expected)
    assert set(np.unique(found)) == {0, 1, 6, 7, 255} and found.dtype == np.uint8
    np.testing.assert_array_equal(meaning(tmp_path, classes=8, reduce_labels=True).read(path), expected)
    np.testing.assert_array_equal(meaning(tmp_path, classes=9).read(path), stored)


def test_the_range_of_labels_is_that_after_the_shift(tmp_path: Path) -> None:
    found = Meaning(4, reduces=True).read(saved(tmp_path / "m.png", [[0, 1, 4, 255]]))
    assert found.tolist() == [[255, 0, 3, 255]]


@pytest.mark.parametrize("classes", [255, 300])
def test_reduced_labels_of_more_classes_would_be_ambiguous(classes: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"do_reduce_labels.*ignores a stored 255.*also be class 254.*to false"):
        meaning(tmp_path, classes=classes, do_reduce_labels=True)
    assert meaning(tmp_path, classes=254, do_reduce_labels=True).reduces


# --- more than 255 classes ---


@pytest.mark.parametrize(
    ("classes", "kind", "none"), [(1, np.uint8, 255), (255, np.uint8, 255), (256, np.uint16, 65535)]
)
def test_masks_and_label_maps_are_as_wide_as_the_classes_need(classes: int, kind: Any, none: int) -> None:
    assert _masks.kind(classes) == kind and _masks.nothing(np.zeros(1, kind)) == _masks.nothing(np.dtype(kind)) == none
    logits = np.zeros((classes, 2, 2), np.float32)
    logits[-1] = 1
    found = _label_maps.label_map(logits, 4, 6)
    assert found.dtype == kind and (found == classes - 1).all()


def test_too_many_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="65536 classes; at most 65535 fit the 16 bits of a mask"):
        meaning(tmp_path, classes=65536)


@pytest.mark.parametrize("ignore", [255, 299, 65535])
def test_sixteen_bit_masks_hold_every_class(ignore: int, tmp_path: Path) -> None:
    stored = np.arange(300).reshape(15, 20)
    stored[0, 0] = ignore
    found = Meaning(300, ignore).read(saved(tmp_path / "m.png", stored, np.uint16))
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, np.where(stored == ignore, 65535, stored))
    with pytest.raises(InputError, match=rf"labels \[300\] outside the 300 classes .*0–299; {ignore} is ignored"):
        Meaning(300, ignore).read(saved(tmp_path / "m.png", [[300]], np.uint16))


def test_the_score_of_many_classes_is_the_jaccard_index() -> None:
    from sklearn.metrics import jaccard_score

    rng = np.random.default_rng(0)
    truth = rng.integers(0, 300, (2, 40, 50)).astype(np.uint16)
    found = np.where(rng.random(truth.shape) < 0.5, truth, rng.integers(0, 300, truth.shape)).astype(np.uint16)
    truth[rng.random(truth.shape) < 0.2] = 65535
    labels = {"mask": truth, "class_names": np.array(list(MANY.values()))}
    valid = truth != 65535
    expected = jaccard_score(truth[valid], found[valid], average="macro", labels=np.arange(300))
    assert segmentation.score(found, labels) == pytest.approx(expected)
    assert _iou.unseen({**labels, "mask": np.where(truth == 255, 65535, truth).astype(np.uint16)}) == ["class 255"]


def test_pictures_of_many_classes_have_a_colour_each() -> None:
    label = np.full((4, 400), 255, np.uint16)
    label[0], label[1] = 299, 65535
    drawn = overlays.segmentation(
        [{"image": np.zeros((4, 400, 3), np.uint8), "float": label, "engine": label, "label": label}],
        list(MANY.values()),
    )
    assert [entry["name"] for entry in drawn["legend"]] == ["class 255", "class 299"]
    assert len({entry["colour"] for entry in drawn["legend"]}) == 2


def many_scenes(folder: Path) -> Path:
    """Returns `folder` with scenes whose classes are 20, 110, 200 and 290 of 300."""
    tiny.scenes(folder, count=16)
    for path in (folder / "masks").iterdir():
        small = np.asarray(Image.open(path))
        saved(path, np.where(small == 255, 7, small.astype(int) * 90 + 20), np.uint16)
    return folder


@pytest.mark.parametrize("backend", USABLE)
def test_an_engine_of_300_classes_and_another_ignored_label(backend: str, tmp_path: Path) -> None:
    checkpoint = tiny.segformer(
        tmp_path / "c", id2label=MANY, label2id={n: i for i, n in MANY.items()}, semantic_loss_ignore_index=7
    )
    more = {"shapes.batches": [1, 3], "verification.runs": 5, "backend": backend, **WAIVED}
    recipe = recipe_for("segformer", tmp_path / "out", checkpoint, many_scenes(tmp_path / "scenes"), **more)
    report = build(recipe)
    assert (report["verdict"], report["reasons"]) == ("pass", [])
    assert report["accuracy"]["classes"] == 300 and len(report["accuracy"]["unseen"]) == 296
    assert "could not be drawn" not in (recipe.folder / "report.html").read_text(encoding="utf-8")
    engine = load_engine(recipe.folder, threads=1)
    inputs, context = engine.preprocess(next((tmp_path / "scenes" / "images").iterdir()))
    outputs = engine(inputs)
    found = engine.postprocess(outputs, context)
    assert found.dtype == np.uint16 and found.shape == (1, 64, 64)
    np.testing.assert_array_equal(found[0], _label_maps.label_map(outputs["logits"][0], 64, 64))


def test_masks_of_other_values_show_before_the_work(tmp_path: Path, cli: Cli) -> None:
    checkpoint = tiny.segformer(tmp_path / "c", semantic_loss_ignore_index=9)
    recipe = recipe_for("segformer", tmp_path / "out", checkpoint, tiny.scenes(tmp_path / "scenes", count=16))
    answer = cli("quantize", "segformer", *options_of(recipe))
    assert answer.code == 2 and answer.err.count("error: ") == 1 and snapshot(recipe.folder) == {}
    assert "labels [255] outside the 4 classes of the checkpoint (0–3; 9 is ignored)" in answer.err
