"""Tasks against independent references: scikit-learn's Jaccard index, torch's interpolation, brute force, cases."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from calibration.samples.seeds import BY_SPLIT
from helpers import tiny
from helpers.messages import all_of
from helpers.runs import recipe_for
from pipeline import families, tasks
from pipeline.checkpoint import EMBEDDED
from pipeline.errors import InputError
from pipeline.recipe import Recipe
from pipeline.tasks import _answers, _image_processing, _iou, _tables, take
from pipeline.tasks import question_answering as qa
from pipeline.tasks import semantic_segmentation as segmentation
from pipeline.tasks import sentence_embedding as embedding
from pipeline.tasks import text_classification as classification
from pipeline.tasks._label_maps import blend, label_map, taps
from pipeline.tasks._masks import Meaning

INTERFACE = (
    "METRIC", "SAMPLES", "AGREEMENT", "samples", "encode", "predict", "score", "tally", "chance", "unjudgeable",
    "agreement", "examples", "preprocess", "postprocess",
)  # fmt: skip


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_has_the_whole_interface(name: str) -> None:
    assert [part for part in INTERFACE if not hasattr(tasks.get(name), part)] == []


def test_every_architecture_of_every_family_has_a_task() -> None:
    for family in families.names():
        for task in families.get(family).TASKS.values():
            assert task in tasks.names()


def test_an_unknown_task_is_told_with_near_names() -> None:
    with pytest.raises(InputError, match="Did you mean question-answering"):
        tasks.get("question-answer")


# --- splits ---

SAMPLES = {"calibration": 20, "selection": 10, "evaluation": 30}
SPLITS = tuple(SAMPLES)


def recipe_of(method: str = "auto", **numbers: int) -> Recipe:
    """Returns a recipe with seed 7 that names these numbers of samples: calibration=5, …"""
    keys = {
        "calibration": "calibration.samples",
        "selection": "calibration.selection_samples",
        "evaluation": "verification.samples",
    }
    named = {keys[split]: number for split, number in numbers.items()}
    return Recipe.load("bert", overrides={"calibration.method": method, "seed": 7, **named})


@pytest.mark.parametrize("method", ["max", "percentile", "mse", "entropy", "auto"])
@pytest.mark.parametrize("numbers", [{}, {"calibration": 3}, {"evaluation": 1, "selection": 25}], ids=str)
def test_the_splits_have_the_samples_that_the_recipe_or_the_task_names(method: str, numbers: dict[str, int]) -> None:
    expected = {**SAMPLES, **numbers}
    if method != "auto":
        del expected["selection"]
    assert tasks.counts(recipe_of(method, **numbers), SAMPLES) == expected


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_names_the_samples_of_every_split(name: str) -> None:
    numbers = tasks.get(name).SAMPLES
    assert set(numbers) == set(SPLITS) and all(isinstance(n, int) and n > 0 for n in numbers.values())
    assert tasks.counts(recipe_of(), numbers) == numbers


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(0, 9), st.integers(0, 2**32 - 1))
def test_no_two_splits_share_a_sample(calibration: int, selection: int, evaluation: int, rest: int, seed: int) -> None:
    recipe = recipe_of(calibration=calibration, selection=selection, evaluation=evaluation)
    recipe = recipe.model_copy(update={"seed": seed})
    found: list[object] = list(range(calibration + selection + evaluation + rest))
    taken = {split: take(found, split, recipe, SAMPLES, "x") for split in SPLITS}
    assert [len(taken[split]) for split in SPLITS] == [calibration, selection, evaluation]
    together = [sample for split in SPLITS for sample in taken[split]]
    assert len(set(together)) == len(together) and set(together) <= set(found)
    for split in SPLITS:
        assert take(found, split, recipe, SAMPLES, "x") == taken[split], "the same ones every time"


def test_the_splits_follow_the_seed_and_selection_moves_no_other() -> None:
    found: list[object] = list(range(100))
    recipe = recipe_of()
    others = {split: take(found, split, recipe, SAMPLES, "x") for split in SPLITS}
    reseeded = recipe.model_copy(update={"seed": 8})
    for split in SPLITS:
        assert take(found, split, reseeded, SAMPLES, "x") != others[split]
    for split in ("calibration", "evaluation"):
        assert take(found, split, recipe_of("max"), SAMPLES, "x") == others[split], "scores can be compared"


@pytest.mark.parametrize("split", SPLITS)
def test_too_few_samples_name_every_split_and_its_setting(split: str) -> None:
    said = (
        "x has 59 samples; calibration takes 20 and evaluation takes 30 and selection takes 10, all different. Give "
        "more data, or ask for fewer with --set calibration.samples=… and --set verification.samples=… and "
        "--set calibration.selection_samples=…."
    )
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):  # whichever is asked for first tells of all
        take(list(range(59)), split, recipe_of(evaluation=30), SAMPLES, "x")
    assert len(take(list(range(60)), split, recipe_of(), SAMPLES, "x")) == SAMPLES[split]


@pytest.mark.parametrize("split", ["calibration", "evaluation"])
def test_without_auto_nothing_is_kept_back_for_selection(split: str) -> None:
    numbers = "x has 49 samples; calibration takes 20 and evaluation takes 30, all different"
    with pytest.raises(InputError, match=all_of(numbers, "calibration.samples", "verification.samples")) as caught:
        take(list(range(49)), split, recipe_of("max", evaluation=30), SAMPLES, "x")
    assert "selection" not in str(caught.value)
    assert len(take(list(range(50)), split, recipe_of("max", evaluation=30), SAMPLES, "x")) == SAMPLES[split]


@pytest.mark.parametrize(
    ("available", "method", "expected"),
    [
        (1000, "max", 30),  # not more than the task's default
        (60, "max", 30), (59, "max", 29), (59, "auto", 29),  # what calibration and selection leave, whoever needs it
        (50, "auto", 20), (40, "max", 20),  # never fewer than calibration takes by default
    ],
)  # fmt: skip
def test_without_a_number_the_evaluation_takes_what_is_left(available: int, method: str, expected: int) -> None:
    found: list[object] = list(range(available))
    held_out = take(found, "evaluation", recipe_of(method), SAMPLES, "x")
    assert len(held_out) == expected
    fewer = take(found, "evaluation", recipe_of("max", evaluation=20), SAMPLES, "x")
    assert held_out[:20] == fewer, "the first ones stay the same"
    with pytest.raises(InputError, match="evaluation takes 20"):
        take(list(range(39)), "evaluation", recipe_of(method), SAMPLES, "x")


@pytest.mark.parametrize(("name", "least"), [("semantic-segmentation", 100), ("question-answering", 500)])
def test_the_embedded_models_are_judged_on_enough_and_the_first_ones_stay(name: str, least: int) -> None:
    assert tasks.get(name).SAMPLES["evaluation"] >= least
    family = "segformer" if name == "semantic-segmentation" else "bert"
    recipe = Recipe.load(family, overrides={"shapes.image_size": 32})
    config = json.loads((EMBEDDED / family / "config.json").read_text())
    few, more = (tasks.get(name).samples(recipe, config, "evaluation", n, folder=EMBEDDED / family) for n in (3, 5))
    assert len(few) == 3 and len(more) == 5
    for a, b in zip(few, more, strict=False):
        np.testing.assert_equal(a, b)


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("name", ["question-answering", "semantic-segmentation"])
def test_no_two_splits_of_generated_data_share_a_sample(name: str, seed: int) -> None:
    family = "segformer" if name == "semantic-segmentation" else "bert"
    recipe = Recipe.load(family, overrides={"seed": seed, "shapes.image_size": 64})
    from calibration.samples.scenes import CLASSES

    config = {"id2label": {str(i): label for i, label in enumerate(CLASSES)}}
    drawn = {split: tasks.get(name).samples(recipe, config, split, 24, folder=Path()) for split in SPLITS}

    def content(sample: Any) -> Any:
        return (sample["context"], sample["question"]) if isinstance(sample, dict) else sample[0].tobytes()

    seen = [content(sample) for split in SPLITS for sample in drawn[split]]
    assert len(seen) == 72 and len(set(seen)) == 72


@pytest.mark.parametrize("name", ["bert", "classifier", "encoder", "segformer"])
def test_data_in_the_home_folder(
    name: str, data: dict[str, Path], checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(data[name].parent))
    recipe = recipe_for(name, tmp_path, checkpoints[name], Path("~") / data[name].name, verification__samples=5)
    config = json.loads((checkpoints[name] / "config.json").read_text(encoding="utf-8"))
    task = families.get(recipe.family).TASKS[config["architectures"][0]]
    assert len(tasks.get(task).samples(recipe, config, "evaluation", 5, folder=checkpoints[name])) == 5


# --- segmentation ---


@pytest.mark.parametrize("size", ["64x96", "96x64"])
def test_drawn_scenes_of_another_aspect_ratio_are_the_middle_of_square_ones(size: str) -> None:
    from calibration.samples.scenes import draw_scene

    folder = EMBEDDED / "segformer"
    recipe = Recipe.load("segformer", overrides={"shapes.image_size": size, "seed": 3})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    ((image, mask),) = segmentation.samples(recipe, config, "evaluation", 1, folder=folder)
    height, width = mask.shape
    assert image.shape == (height, width, 3) and f"{height}x{width}" == size
    whole, labels = draw_scene(BY_SPLIT["evaluation"] + 3, 96)
    top, left = (96 - height) // 2, (96 - width) // 2
    np.testing.assert_array_equal(mask, labels[top : top + height, left : left + width])
    np.testing.assert_array_equal(image, whole[top : top + height, left : left + width])


UNLABELLED = 255  # of masks of bytes


@pytest.mark.parametrize(
    ("small", "large"), [((16, 16), (64, 64)), ((3, 5), (7, 11)), ((1, 1), (4, 4)), ((4, 6), (4, 6)), ((5, 4), (6, 13))]
)
def test_upsampling_is_torchs_bilinear_interpolation(small: tuple[int, int], large: tuple[int, int]) -> None:
    import torch

    logits = np.random.default_rng(0).standard_normal((3, *small)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(logits)[None], size=large, mode="bilinear", align_corners=False
    )[0].numpy()
    rows = blend(logits.transpose(1, 2, 0), taps(small[0], large[0]))
    found = blend(rows.transpose(1, 0, 2), taps(small[1], large[1])).transpose(2, 1, 0)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    top = np.sort(expected, axis=0)
    clear = top[-1] - top[-2] > 1e-4  # two classes that tie may fall either way
    np.testing.assert_array_equal(label_map(logits, *large)[clear], expected.argmax(0)[clear])


def masks(seed: int, classes: int, ignore: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, (3, 20, 24)).astype(np.uint8)
    found = np.where(rng.random(truth.shape) < 0.7, truth, rng.integers(0, classes, truth.shape)).astype(np.uint8)
    truth[rng.random(truth.shape) < ignore] = UNLABELLED
    return truth, found


@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize("ignore", [0.0, 0.3])
def test_iou_is_the_jaccard_index(classes: int, ignore: float) -> None:
    from sklearn.metrics import jaccard_score

    truth, found = masks(classes, classes, ignore)
    labels = {"mask": truth, "class_names": np.array([str(i) for i in range(classes)])}
    valid = truth != UNLABELLED
    expected = jaccard_score(truth[valid], found[valid], average=None, labels=np.arange(classes))
    np.testing.assert_allclose(_iou.class_iou(found, labels), expected)
    assert segmentation.score(found, labels) == pytest.approx(expected.mean())


def test_classes_that_occur_nowhere_do_not_count() -> None:
    truth = np.array([[[0, 0], [1, 255]]], np.uint8)
    found = np.array([[[0, 1], [1, 2]]], np.uint8)
    labels = {"mask": truth, "class_names": np.array(list("abcd"))}
    iou = _iou.class_iou(found, labels)
    np.testing.assert_array_equal(iou, [0.5, 0.5, np.nan, np.nan])
    assert segmentation.score(found, labels) == 0.5
    found[0, 0, 0] = 3  # wrong: the class occurs now, with nothing right
    np.testing.assert_array_equal(_iou.class_iou(found, labels)[3], 0)


def test_an_image_without_a_judged_pixel_counts_for_nothing() -> None:
    truth, found = masks(4, 3, 0.2)
    names = np.array(list("abc"))
    expected = _iou.class_iou(found[1:], {"mask": truth[1:], "class_names": names})
    truth[0] = UNLABELLED
    np.testing.assert_array_equal(_iou.class_iou(found, {"mask": truth, "class_names": names}), expected)


def test_predictions_are_the_largest_logit_at_the_masks_size() -> None:
    logits = np.zeros((1, 3, 2, 2), np.float32)
    logits[0, 1, 0], logits[0, 2, 1] = 1, 1  # class 1 above, class 2 below
    labels = {"mask": np.zeros((1, 8, 8), np.uint8)}
    found = segmentation.predict({"logits": logits}, labels)
    assert found.shape == (1, 8, 8) and found.dtype == np.uint8
    assert (found[0, :4] == 1).all() and (found[0, 4:] == 2).all()


def test_agreement_is_the_share_of_equal_pixels() -> None:
    a = np.zeros((2, 4, 4), np.uint8)
    b = a.copy()
    b[0, 0, :] = 1
    assert segmentation.agreement(a, b) == 1 - 4 / 32
    examples = segmentation.examples({"pixel_values": a}, {"mask": a}, a, b, 1)
    assert [e["agreement"] for e in examples] == [1 - 4 / 16], "the one that differs comes first"


def test_pixel_values_are_those_of_the_checkpoints_own_processor(checkpoints: dict[str, Path]) -> None:
    from transformers import SegformerImageProcessor

    processor = SegformerImageProcessor.from_pretrained(checkpoints["segformer"], do_resize=False)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    expected = processor(image, return_tensors="np")["pixel_values"][0]
    found = _image_processing.read(checkpoints["segformer"]).pixel_values(image, (64, 64))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_images_of_any_size_are_taken_and_masks_keep_their_labels(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    tiny.scenes(tmp_path / "data", count=11, size=96)
    recipe = recipe_for("segformer", tmp_path, checkpoints["segformer"], tmp_path / "data", verification__samples=3)
    config = json.loads((checkpoints["segformer"] / "config.json").read_text(encoding="utf-8"))
    raw = segmentation.samples(recipe, config, "evaluation", 3, folder=checkpoints["segformer"])
    inputs, labels = segmentation.encode(checkpoints["segformer"], recipe, raw)
    assert inputs["pixel_values"].shape == (3, 3, 64, 64) and inputs["pixel_values"].dtype == np.float32
    assert labels["mask"].shape == (3, 64, 64) and set(np.unique(labels["mask"])) <= {0, 1, 2, 3, 255}
    assert labels["class_names"].tolist() == list(tiny.CLASSES)
    one, _ = segmentation.preprocess(checkpoints["segformer"], raw[0][0], recipe)
    np.testing.assert_array_equal(one["pixel_values"][0], inputs["pixel_values"][0])


def test_palette_masks_are_read_as_indices(tmp_path: Path) -> None:
    tiny.scenes(tmp_path, count=1)
    mask = Image.open(tmp_path / "masks" / "000.png")
    expected = np.asarray(mask)
    coloured = mask.convert("L").copy()
    palette = Image.fromarray(expected, mode="P")
    palette.putpalette([*range(256)] * 3)
    palette.save(tmp_path / "masks" / "000.png")
    assert coloured.size == palette.size
    _, found = segmentation.read_pair(tmp_path / "images" / "000.png", tmp_path / "masks" / "000.png", Meaning(4))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((10, 20), np.uint8), "20×10, its image is 64×64"),
        (np.full((64, 64), 4, np.uint8), r"labels \[4\] outside the 4 classes .*0–3; 255 is ignored"),
        (np.full((64, 64), 254, np.uint8), r"labels \[254\]"),
        (np.full((64, 64), 300, np.uint16), r"labels \[300\]"),
        (np.zeros((64, 64, 3), np.uint8), "one channel"),
    ],
    ids=["size", "label", "just-below-ignore", "16-bit", "rgb"],
)
def test_bad_masks(mask: np.ndarray, message: str, tmp_path: Path) -> None:
    tiny.scenes(tmp_path, count=1)
    Image.fromarray(mask).save(tmp_path / "masks" / "000.png")
    with pytest.raises(InputError, match=message):
        segmentation.read_pair(tmp_path / "images" / "000.png", tmp_path / "masks" / "000.png", Meaning(4))


def test_drawn_scenes_need_their_own_classes(checkpoints: dict[str, Path]) -> None:
    recipe = Recipe.load("segformer", overrides={"checkpoint": str(checkpoints["segformer"])})
    config = json.loads((checkpoints["segformer"] / "config.json").read_text(encoding="utf-8"))
    with pytest.raises(InputError, match="give DATA="):
        segmentation.samples(recipe, config, "calibration", 2, folder=checkpoints["segformer"])


# --- question answering ---


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        ("the red boat", "red boat", 1.0),
        ("The Red Boat!", "a red boat.", 1.0),
        ("red", "red boat", 2 / 3),
        ("red red boat", "red boat", 0.8),
        ("house", "boat", 0.0),
        ("", "boat", 0.0),
        ("the", "", 1.0),  # both are empty words
        ("in the old harbour", "the harbour", 0.5),
        ("boat red", "red boat", 1.0),
    ],
)
def test_f1_of_known_cases(answer: str, truth: str, expected: float) -> None:
    assert _answers.f1(answer, truth) == pytest.approx(expected)


def label(context: str, offsets: list[list[int]], sequence: list[int | None], **more: Any) -> str:
    sample = {"id": "a", "question": "?", "answers": ["x"], **more}
    return json.dumps({**sample, "context": context, "offsets": offsets, "sequence_ids": sequence})


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 45), st.integers(0, 2**32 - 1))
def test_the_best_span_is_the_one_that_brute_force_finds(tokens: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = [f"w{i}" for i in range(tokens)]
    context = " ".join(words)
    starts = np.cumsum([0, *(len(w) + 1 for w in words[:-1])])
    offsets = [[0, 0], [0, 1], [0, 0], *([int(s), int(s) + len(w)] for s, w in zip(starts, words, strict=True)), [0, 0]]
    sequence = [None, 0, None, *([1] * tokens), None]
    start, end = rng.standard_normal((2, 1, len(offsets))).astype(np.float32) + 0
    start[0, :3] = end[0, :3] = 99  # the question and [CLS] shout; they are no answers
    labels = {"sample": np.array([label(context, offsets, sequence)])}
    spans = [(start[0, i] + end[0, j], (i, j)) for i in range(3, 3 + tokens) for j in range(i, min(i + 30, 3 + tokens))]
    i, j = max(spans)[1]
    expected = context[offsets[i][0] : offsets[j][1]]
    assert qa.predict({"start_logits": start, "end_logits": end}, labels) == [expected]


def test_the_best_window_of_a_question_answers_it() -> None:
    offsets, sequence = [[0, 0], [0, 3], [4, 8]], [None, 1, 1]
    rows = [
        label("one four", offsets, sequence, id="first"),
        label("red boat", offsets, sequence, id="second"),
        label("one four", offsets, sequence, id="first"),
    ]
    start = np.array([[0, 1, 0], [0, 5, 0], [0, 0, 3]], np.float32)
    end = np.array([[0, 1, 0], [0, 0, 5], [0, 0, 3]], np.float32)
    labels = {"sample": np.array(rows)}
    found = qa.predict({"start_logits": start, "end_logits": end}, labels)
    assert found == ["four", "red boat"], "one answer a question, in the order of first appearance"
    assert qa.agreement(found, ["four", "boat"]) == 0.5


def test_the_score_takes_the_best_accepted_answer() -> None:
    rows = [
        label("c", [], [], id="a", answers=["red", "a red boat"]),
        label("c", [], [], id="b", answers=["house"]),
    ]
    assert qa.score(["red boat", "lamp"], {"sample": np.array(rows)}) == pytest.approx(0.5)


def test_a_long_context_gives_windows_that_cover_it(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    words = [tiny.THINGS[i % len(tiny.THINGS)] for i in range(100)]
    sample = {"id": "1", "question": "where is it?", "context": " ".join(words), "answers": ["boat"]}
    recipe = recipe_for("bert", tmp_path, checkpoints["bert"], tmp_path)
    inputs, labels = qa.encode(checkpoints["bert"], recipe, [sample])
    rows = [json.loads(str(t)) for t in labels["sample"]]
    assert len(rows) > 3 and inputs["input_ids"].shape == (len(rows), 32)
    covered = {
        (begin + r["start"], end + r["start"])
        for r in rows
        for (begin, end), s in zip(r["offsets"], r["sequence_ids"], strict=True)
        if s == 1
    }
    assert covered == {
        (sum(len(w) + 1 for w in words[:i]), sum(len(w) + 1 for w in words[:i]) + len(words[i])) for i in range(100)
    }
    for r, ids, types in zip(rows, inputs["input_ids"], inputs["token_type_ids"], strict=True):
        assert r["id"] == "1" and ids[0] == 2, "[CLS] first, the question in every window"
        assert [s for s in r["sequence_ids"] if s == 0] == [0] * 4
        assert (types == 1).sum() == sum(s == 1 for s in r["sequence_ids"]) + 1  # and its [SEP]
    assert (inputs["attention_mask"].sum(1) <= 32).all()


def test_an_answer_in_the_last_window_can_be_found(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    context = " ".join(["boat"] * 60 + ["harbour"])
    sample = {"id": "1", "question": "where?", "context": context, "answers": ["harbour"]}
    recipe = recipe_for("bert", tmp_path, checkpoints["bert"], tmp_path)
    inputs, labels = qa.encode(checkpoints["bert"], recipe, [sample])
    harbour = (inputs["input_ids"] == tiny.VOCABULARY.index("harbour")).astype(np.float32)
    found = qa.predict({"start_logits": harbour, "end_logits": harbour}, labels)
    assert found == ["harbour"] and qa.score(found, labels) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": [{"paragraphs": [{"qas": []}]}]}, "no questions"),
        ({"data": [{"paragraphs": [{"context": "c", "qas": [{"question": "q"}]}]}]}, "SQuAD v1.1 format"),
        ({"version": "1"}, "SQuAD v1.1 format"),
        ({"data": "text"}, "SQuAD v1.1 format"),
    ],
)
def test_documents_that_are_not_squad(content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        qa.read_squad(content, "file.json")


def test_one_id_for_two_questions_is_refused(tmp_path: Path) -> None:
    content = json.loads(tiny.squad(tmp_path / "s.json", count=3).read_text(encoding="utf-8"))
    content["data"][0]["paragraphs"][1]["qas"][0]["id"] = "q0"
    with pytest.raises(InputError, match="1 ids name several questions, the first is 'q0'"):
        qa.read_squad(content, "file.json")


def test_labels_of_long_contexts_grow_with_their_length_not_its_square(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    recipe = recipe_for("bert", tmp_path, checkpoints["bert"], tmp_path)
    sizes = []
    for words in (500, 1000, 2000):
        sample = {"id": "1", "question": "where?", "context": "boat car " * words, "answers": ["car"]}
        _, labels = qa.encode(checkpoints["bert"], recipe, [sample])
        sizes.append(labels["sample"].nbytes)
    assert sizes[1] < 2.2 * sizes[0] and sizes[2] < 2.2 * sizes[1]


def test_every_window_answers_in_the_words_of_the_whole_context(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    recipe = recipe_for("bert", tmp_path, checkpoints["bert"], tmp_path)
    words = [f"car {i} boat" for i in range(40)]
    sample = {"id": "1", "question": "where?", "context": " Ä ".join(words), "answers": ["car"]}
    inputs, labels = qa.encode(checkpoints["bert"], recipe, [sample])
    assert len(labels["sample"]) > 3
    for window in range(len(labels["sample"])):
        facts = json.loads(str(labels["sample"][window]))
        tokens = [i for i, sequence in enumerate(facts["sequence_ids"]) if sequence == 1]
        logits = np.full(inputs["input_ids"].shape, -1.0)
        logits[window, tokens[1]] = logits[window, tokens[2]] = 5.0
        (answer,) = qa.predict({"start_logits": logits, "end_logits": logits}, labels)
        begin, end = facts["offsets"][tokens[1]][0], facts["offsets"][tokens[1]][1]
        assert answer.startswith(facts["context"][begin:end]) and answer in sample["context"]
        assert facts["context"] in sample["context"]


@pytest.mark.parametrize("words", range(1, 32))
@pytest.mark.parametrize("length", [8, 16, 32])
def test_a_question_of_any_length_is_encoded_or_told(
    words: int, length: int, checkpoints: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The tokenizer panics where a window is not longer than what two of them share, and prints a trace."""
    recipe = recipe_for("bert", tmp_path, checkpoints["bert"], tmp_path, shapes__sequence_length=length)
    for context in ("boat", "boat " * 100):
        sample = {"id": "7", "question": "boat " * words, "context": context, "answers": ["boat"]}
        shared = length // 4 if len(context) > length else 0  # the part of a window that the next one has too
        if words + 3 < length - shared:
            inputs, _ = qa.encode(checkpoints["bert"], recipe, [sample])
            assert inputs["input_ids"].shape[1] == length
        else:
            with pytest.raises(InputError, match=f"question '7' leaves no room for its context in {length} tokens"):
                qa.encode(checkpoints["bert"], recipe, [sample])
    assert "panicked" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("who?", 'takes {"question": …, "context": …}, or a list'),
        ([], "or a list of such dicts"),
        ({"question": "who?"}, "or a list of such dicts"),
        ([{"question": "a", "context": "b"}, "c"], "or a list of such dicts"),
        ({"question": None, "context": "b"}, "question of question '0' is NoneType"),
        ({"question": "a", "context": "b \ud800"}, r"context of question '0' is damaged: character 2 is U\+D800"),
    ],
)
def test_an_engine_says_what_it_takes_of_questions(
    raw: Any, said: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    recipe = recipe_for("bert", tmp_path, checkpoints["bert"], tmp_path)
    with pytest.raises(InputError, match=said):
        qa.preprocess(checkpoints["bert"], raw, recipe)


@pytest.mark.parametrize("task", [classification, embedding])
@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (7, "takes a text or a list of texts, found int"),
        (None, "found NoneType"),
        ([], "found list"),
        (["a", None], "text 2 of 2 is NoneType, not a string"),
        ("a \udfff", r"text 1 of 1 is damaged: character 2 is U\+DFFF, a lone surrogate"),
    ],
)
def test_an_engine_says_what_it_takes_of_texts(
    task: Any, raw: Any, said: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    recipe = recipe_for("classifier", tmp_path, checkpoints["classifier"], tmp_path)
    with pytest.raises(InputError, match=said):
        task.preprocess(checkpoints["classifier"], raw, recipe)


# --- classification ---


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"id2label": {"0": "score"}}, "has 1 output;"),
        ({"num_labels": 1}, "has 1 output;"),
        ({"num_labels": 2, "problem_type": "multi_label_classification"}, "problem_type 'multi_label_classification'"),
        ({"num_labels": 1, "problem_type": "regression"}, "problem_type 'regression'"),
    ],
)
def test_a_head_without_one_label_of_several_is_refused(config: dict[str, Any], said: str) -> None:
    """One output is right whatever an engine says: its accuracy would prove nothing."""
    with pytest.raises(InputError, match=said):
        classification.check(config)
    classification.check({"num_labels": 2, "problem_type": "single_label_classification"})


@pytest.mark.parametrize("text", ["null", "[1]", "7", "{}"])
def test_text_that_is_none_is_not_read_as_its_repr(text: str, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(f'{{"text": "fine"}}\n{{"text": {text}}}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"t\.jsonl line 2: .*text is \w+, not a string"):
        _tables.read_table(path)


@pytest.mark.parametrize("key", ["question", "context", "answers"])
@pytest.mark.parametrize("value", [None, 7, ["a"]])
def test_squad_texts_are_strings(key: str, value: Any, tmp_path: Path) -> None:
    content = json.loads(tiny.squad(tmp_path / "s.json", count=2).read_text(encoding="utf-8"))
    paragraph = content["data"][0]["paragraphs"][0]
    if key == "context":
        paragraph["context"] = value
    elif key == "question":
        paragraph["qas"][0]["question"] = value
    else:
        paragraph["qas"][0]["answers"][0]["text"] = value
    with pytest.raises(InputError, match=rf"file\.json: {key} of question 'q0' is \w+, not a string"):
        qa.read_squad(content, "file.json")


@pytest.mark.parametrize("ids", [("x", None), ("same", "same"), (None, None)])
def test_two_questions_of_one_id_have_an_answer_each(
    ids: tuple[str | None, str | None], checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = checkpoints["bert"]
    recipe = recipe_for("bert", tmp_path, folder, tmp_path)
    texts = [("who is it", "the red bus"), ("what", "a car")]
    rows = [
        {"question": question, "context": context, **({} if name is None else {"id": name})}
        for name, (question, context) in zip(ids, texts, strict=True)
    ]
    inputs, labels = qa.preprocess(folder, rows, recipe)
    logits = np.random.default_rng(0).standard_normal(inputs["input_ids"].shape)
    answers = qa.postprocess(folder, {"start_logits": logits, "end_logits": logits}, labels)
    assert len(answers) == 2
    assert all(answer in context for answer, (_, context) in zip(answers, texts, strict=True))


def test_tables_in_both_forms(tmp_path: Path) -> None:
    tsv, jsonl = tmp_path / "t.tsv", tmp_path / "t.jsonl"
    tsv.write_bytes('\ufefftext\tlabel\r\nsay "hi"\tA\r\n\r\nline\u2028one\tB\r\n'.encode())
    jsonl.write_text(
        '{"text": "say \\"hi\\"", "label": "A"}\n{"text": "line\u2028one", "label": "B"}\n', encoding="utf-8"
    )
    expected = [{"text": 'say "hi"', "label": "A"}, {"text": "line\u2028one", "label": "B"}]
    assert _tables.read_table(tsv) == expected
    assert _tables.read_table(jsonl) == expected


def test_classification_end_to_end(checkpoints: dict[str, Path], data: dict[str, Path], tmp_path: Path) -> None:
    recipe = recipe_for("classifier", tmp_path, checkpoints["classifier"], data["classifier"], verification__samples=10)
    config = json.loads((checkpoints["classifier"] / "config.json").read_text(encoding="utf-8"))
    raw = classification.samples(recipe, config, "evaluation", 10, folder=checkpoints["classifier"])
    inputs, labels = classification.encode(checkpoints["classifier"], recipe, raw)
    assert all(v.shape == (10, 32) and v.dtype == np.int64 for v in inputs.values())
    logits = np.eye(2, dtype=np.float32)[labels["label"]]
    found = classification.predict({"logits": logits}, labels)
    assert classification.score(found, labels) == 1 and classification.agreement(found, 1 - found) == 0
    names = classification.postprocess(checkpoints["classifier"], {"logits": logits}, labels)
    assert names == [f"LABEL_{i}" for i in labels["label"]]


# --- embeddings ---


def test_embeddings_are_means_over_real_tokens_of_length_one() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((4, 7, 5)).astype(np.float32)
    mask = np.array([[1] * n + [0] * (7 - n) for n in (7, 3, 1, 5)])
    found = embedding.predict({"last_hidden_state": hidden}, {"attention_mask": mask, "pooling": np.array(["mean"])})
    for i, n in enumerate((7, 3, 1, 5)):
        mean = hidden[i, :n].mean(0)
        np.testing.assert_allclose(found[i], mean / np.linalg.norm(mean), rtol=1e-5)
    hidden[1, 3:] = 1e6  # padding
    again = embedding.predict({"last_hidden_state": hidden}, {"attention_mask": mask, "pooling": np.array(["mean"])})
    np.testing.assert_array_equal(again, found)
    assert embedding.score(found, {"embedding": found}) == pytest.approx(1)


def test_agreement_of_embeddings_is_about_nearest_neighbours() -> None:
    a = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    assert embedding.nearest(a).tolist() == [1, 0, 3, 2], "never itself"
    b = a.copy()
    b[1] = [0.05, 1]
    b[1] /= np.linalg.norm(b[1])
    assert embedding.agreement(a, a) == 1
    assert embedding.agreement(a, b) < 1


def test_a_zero_vector_has_no_direction_and_stays_zero() -> None:
    hidden = np.zeros((3, 4, 5), np.float32)
    hidden[1] = 2
    labels = {"attention_mask": np.ones((3, 4)), "pooling": np.array(["mean"])}
    with np.errstate(all="raise"):
        found = embedding.predict({"last_hidden_state": hidden}, labels)
    assert not found[0].any() and not found[2].any() and np.linalg.norm(found[1]) == pytest.approx(1)
    assert embedding.agreement(found, found) == 1
