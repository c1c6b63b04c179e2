"""What cannot be used is refused: one clear message, exit code 2, and the artifacts of before byte for byte."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers import qdq_models, tiny
from helpers.command_line import Cli, printed, recipe_of
from helpers.runs import options_of, recipe_for, snapshot
from pipeline import load_engine, tasks
from pipeline.artifacts.manifest import Manifest
from pipeline.errors import ArtifactError
from pipeline.model import processing_check
from pipeline.recipe import Recipe
from pipeline.stages import build
from pipeline.tasks import semantic_segmentation as segmentation

Refused = Callable[..., str]
Copy = Callable[[str], Path]


@pytest.fixture
def refused(cli: Cli, calibrated: dict[str, Recipe], tmp_path: Path) -> Refused:
    """Returns a function that runs a stage on a folder with earlier artifacts and returns why it was refused."""

    def run(stage: str, name: str, *more: object) -> str:
        folder = tmp_path / f"exports-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(calibrated[name].folder, folder)
        before = snapshot(folder)
        recipe = calibrated[name].model_copy(update={"folder": folder})
        answer = cli(stage, recipe.family, *options_of(recipe), *more)
        assert answer.code == 2, answer
        assert answer.out == "" and "Traceback" not in answer.err
        assert answer.err.count("error: ") == 1
        assert snapshot(folder) == before, "earlier artifacts are intact, nothing half-made is left"
        assert not list(folder.glob(".*.partial"))
        return answer.err.partition("error: ")[2]

    return run


def edit_json(path: Path, **changes: Any) -> None:
    """Changes keys of a JSON file; None removes a key."""
    content = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}), encoding="utf-8")


def edit_weights(folder: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def set_value(name: str, value: float) -> Callable[[dict[str, np.ndarray]], None]:
    def change(weights: dict[str, np.ndarray]) -> None:
        weights[next(k for k in weights if name in k)].flat[3] = value

    return change


def zero(name: str, rows: int | slice = slice(None)) -> Callable[[dict[str, np.ndarray]], None]:
    def change(weights: dict[str, np.ndarray]) -> None:
        for key in weights:
            if name in key:
                weights[key][rows] = 0

    return change


def drop(name: str) -> Callable[[dict[str, np.ndarray]], None]:
    def change(weights: dict[str, np.ndarray]) -> None:
        del weights[next(k for k in weights if name in k)]

    return change


def nan_in_bfloat16(folder: Path) -> None:
    """Stores the weights in a type that numpy has not, one of them NaN."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = {k: v.to(torch.bfloat16) for k, v in load_file(folder / "model.safetensors").items()}
    weights["qa_outputs.weight"][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# --- names and settings ---


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["segfrmer"], ["unknown model 'segfrmer'", "Did you mean segformer", "Available: bert, segformer"]),
        (["bert", "--backend", "openvimo"], ["openvimo", "Did you mean openvino", "onnxruntime"]),
        (["bert", "--calibration", "entropie"], ["entropie", "Did you mean entropy"]),
        (["bert", "--set", "calibration.sample=8"], ["'calibration.sample'", "Did you mean samples"]),
        (["bert", "--set", "calibration.samples=0"], ["calibration.samples = 0", "greater than or equal to 1"]),
        (["bert", "--set", "samples"], ["--set samples", "name=value"]),
        (["bert", "--set", "calibration=7"], ["calibration = 7"]),
        (["bert", "--recipe", "nowhere.toml"], ["nowhere.toml", "No such file"]),
        (["segformer", "--set", "shapes.image_size=big"], ["shapes.image_size = 'big'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and len(value) < 4 else "",
)
def test_names_and_settings(arguments: list[str], expected: list[str], cli: Cli, tmp_path: Path) -> None:
    answer = cli("engine", *arguments, "--output", tmp_path / "exports")
    assert answer.code == 2 and answer.err.count("error: ") == 1, answer
    for fragment in expected:
        assert fragment in answer.err
    assert not (tmp_path / "exports").exists(), "nothing was written"


def test_an_unknown_first_stage(cli: Cli, tmp_path: Path) -> None:
    answer = cli("engine", "bert", "--from", "lowr", "--output", tmp_path / "exports")
    assert answer.code == 2
    assert "unknown stage 'lowr'" in answer.err and "Did you mean lower" in answer.err


def test_every_fault_of_a_recipe_is_in_one_message(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("seed: many\nshapes: {sequence_length: 3, lenght: 3}\nbudgets: {agreement: 7}\n", encoding="utf-8")
    answer = cli("engine", "bert", "--recipe", file, "--output", tmp_path / "exports")
    assert answer.code == 2
    for fragment in ("seed = 'many'", "shapes.sequence_length = 3", "'shapes.lenght'", "budgets.agreement = 7"):
        assert fragment in answer.err


@pytest.mark.parametrize("content", ["a = = 1", "calibration = 1\n[calibration]\n"])
def test_a_recipe_that_is_not_toml(content: str, cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(content, encoding="utf-8")
    answer = cli("engine", "bert", "--recipe", file, "--output", tmp_path / "exports")
    assert answer.code == 2 and "recipe.toml is not valid TOML" in answer.err


# --- checkpoints ---

CHECKPOINTS: dict[str, tuple[str, Callable[[Path], object], list[str]]] = {
    "no weights": ("bert", lambda f: (f / "model.safetensors").unlink(), ["no model.safetensors"]),
    "a pickle": (
        "bert",
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        ["no model.safetensors", "pytorch_model.bin", "can run code"],
    ),
    "truncated weights": ("bert", lambda f: cut_in_half(f / "model.safetensors"), ["model.safetensors", "truncated"]),
    "empty weights": ("segformer", lambda f: (f / "model.safetensors").write_bytes(b""), ["truncated"]),
    "NaN": ("bert", lambda f: edit_weights(f, set_value("layer.1.output.dense.weight", np.nan)), [
        "NaN or infinite", "layer.1.output.dense.weight"]),
    "infinity": ("segformer", lambda f: edit_weights(f, set_value("classifier.weight", np.inf)), [
        "NaN or infinite", "classifier.weight"]),
    "outputs of zeros": ("bert", lambda f: edit_weights(f, zero("qa_outputs")), ["0 in all of start_logits, end_l"]),
    "an output of zeros": ("bert", lambda f: edit_weights(f, zero("qa_outputs", 0)), ["0 in all of start_logits:"]),
    "a head of zeros": ("segformer", lambda f: edit_weights(f, zero("classifier")), ["gives 0 in all of logits"]),
    "NaN in half precision": ("bert", lambda f: nan_in_bfloat16(f), ["NaN or infinite", "qa_outputs.weight"]),
    "a weight is missing": ("bert", lambda f: edit_weights(f, drop("layer.1.output.dense.weight")), [
        "layer.1.output.dense.weight"]),
    "no config": ("bert", lambda f: (f / "config.json").unlink(), ["no config.json"]),
    "config is no JSON": ("bert", lambda f: (f / "config.json").write_text("{"), ["config.json", "not valid JSON"]),
    "config is a list": ("bert", lambda f: (f / "config.json").write_text("[]"), ["config.json", "list"]),
    "another architecture": (
        "bert",
        lambda f: edit_json(f / "config.json", architectures=["GPT2LMHeadModel"], model_type="gpt2"),
        ["GPT2LMHeadModel", "'bert'", "gpt2", "BertForQuestionAnswering"],
    ),
    "neither architecture nor model type": (
        "segformer",
        lambda f: edit_json(f / "config.json", architectures=None, model_type=None),
        ["SegformerForSemanticSegmentation"],
    ),
    "other widths than the weights": (
        "bert",
        lambda f: edit_json(f / "config.json", intermediate_size=96),
        ["does not load as BertForQuestionAnswering", "6 weights", "intermediate.dense.bias", "[128] instead of [96]"],
    ),
    "tokenizer larger than the vocabulary": (
        "bert",
        lambda f: tiny.tokenizer((*tiny.VOCABULARY, "more", "words")).save(str(f / "tokenizer.json")),
        ["does not match the vocabulary", str(len(tiny.VOCABULARY) + 1), str(len(tiny.VOCABULARY))],
    ),
    "tokenizer is no tokenizer": ("bert", lambda f: (f / "tokenizer.json").write_text("{}"), ["tokenizer.json"]),
    "no tokenizer": ("bert", lambda f: (f / "tokenizer.json").unlink(), ["neither tokenizer.json nor vocab.txt"]),
    "no preprocessing": (
        "segformer",
        lambda f: (f / "preprocessor_config.json").unlink(),
        ["no preprocessor_config.json"],
    ),
    "preprocessing without a mean": (
        "segformer",
        lambda f: edit_json(f / "preprocessor_config.json", image_mean=None),
        ["preprocessor_config.json", "image_mean"],
    ),
    "preprocessing that divides by zero": (
        "segformer",
        lambda f: edit_json(f / "preprocessor_config.json", image_std=[0.2, 0.0, 0.2]),
        ["preprocessor_config.json", "image_std", "positive"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_checkpoints(case: str, refused: Refused, copy_of: Copy) -> None:
    name, damage, expected = CHECKPOINTS[case]
    folder = copy_of(name)
    damage(folder)
    message = refused("quantize", name, "--checkpoint", folder)
    for fragment in expected:
        assert fragment in message


def test_a_head_that_reshapes_by_itself_knows_one_size(refused: Refused, copy_of: Copy) -> None:
    folder = copy_of("segformer")
    edit_json(folder / "config.json", reshape_last_stage=False, hidden_sizes=[16, 16, 32, 16])
    message = refused("quantize", "segformer", "--checkpoint", folder)
    assert "image_size = 64" in message and "runs only at 128" in message


def test_a_segformer_is_not_a_bert(refused: Refused, checkpoints: dict[str, Path]) -> None:
    message = refused("quantize", "bert", "--checkpoint", checkpoints["segformer"])
    assert "SegformerForSemanticSegmentation" in message and "BertForQuestionAnswering" in message


@pytest.mark.parametrize(
    ("checkpoint", "expected"),
    [
        ("/no/such/folder", ["CHECKPOINT=/no/such/folder", "no such folder"]),
        ("justaname", ["CHECKPOINT=justaname", "owner/name"]),
        (__file__, ["is a file", "config.json"]),
        ("owner/../name", ["CHECKPOINT=owner/../name"]),
    ],
)
def test_checkpoints_that_are_not_there(checkpoint: str, expected: list[str], refused: Refused) -> None:
    message = refused("quantize", "bert", "--checkpoint", checkpoint)
    for fragment in expected:
        assert fragment in message


@pytest.mark.parametrize(
    ("name", "setting", "expected"),
    [
        ("segformer", "shapes.image_size=100", ["image_size = 100", "multiple of 32", "96 and 128"]),
        ("segformer", "shapes.image_size=64x100", ["image_size = 64x100", "multiple of 32", "64x96 and 64x128"]),
        ("segformer", "shapes.image_size=64x", ["image_size = '64x'", "512x1024 for a height of 512"]),
        ("segformer", "shapes.window_stride=96", ["shapes.window_stride = 96 leaves pixels between windows of 64"]),
        ("segformer", "shapes.image_size=16", ["image_size = 16", "greater than or equal to 32"]),
        ("bert", "shapes.sequence_length=65", ["sequence_length = 65", "64 positions"]),
    ],
)
def test_shapes_that_the_family_cannot_take(name: str, setting: str, expected: list[str], refused: Refused) -> None:
    message = refused("quantize", name, "--set", setting)
    for fragment in expected:
        assert fragment in message


# --- data ---


def image(path: Path, value: np.ndarray) -> None:
    Image.fromarray(value).save(path)


def first(folder: Path, kind: str) -> Path:
    return sorted((folder / kind).iterdir())[0]


def for_all(folder: Path, kind: str, change: Callable[[Path], object]) -> None:
    for path in (folder / kind).iterdir():
        change(path)


SCENES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "no masks folder": (lambda f: shutil.rmtree(f / "masks"), ["no folder 'masks'", "images/ and masks/"]),
    "no images": (lambda f: for_all(f, "images", Path.unlink), ["has no images"]),
    "a mask is missing": (lambda f: first(f, "masks").unlink(), ["1 images have no mask", "'000'"]),
    "masks of another size": (
        lambda f: for_all(f, "masks", lambda p: image(p, np.zeros((32, 48), np.uint8))),
        ["48×32", "64×64"],
    ),
    "labels outside the classes": (
        lambda f: for_all(f, "masks", lambda p: image(p, np.full((64, 64), 9, np.uint8))),
        ["labels [9]", "4 classes"],
    ),
    "coloured masks": (
        lambda f: for_all(f, "masks", lambda p: image(p, np.zeros((64, 64, 3), np.uint8))),
        ["one channel of class indices"],
    ),
    "images that are none": (lambda f: for_all(f, "images", lambda p: p.write_bytes(b"text")), ["cannot be read"]),
    "truncated images": (lambda f: for_all(f, "images", cut_in_half), ["cannot be read"]),
}


@pytest.mark.parametrize("case", SCENES)
def test_scenes(case: str, refused: Refused, tmp_path: Path) -> None:
    damage, expected = SCENES[case]
    folder = tiny.scenes(tmp_path / "scenes", count=16)
    damage(folder)
    message = refused("calibrate", "segformer", "--data", folder)
    for fragment in expected:
        assert fragment in message


QUESTIONS: dict[str, tuple[str, list[str]]] = {
    "no JSON": ("{", ["data.json is not JSON", "line 1 column 2"]),
    "empty file": ("", ["data.json is empty"]),
    "another form": ('{"rows": []}', ["data.json is not in SQuAD v1.1 format", "data"]),
    "a list": ("[1, 2]", ["data.json is not in SQuAD v1.1 format"]),
    "no questions": ('{"data": []}', ["data.json has no questions"]),
    "no answers": (
        '{"data": [{"paragraphs": [{"context": "c", "qas": [{"id": "7", "question": "q", "answers": []}]}]}]}',
        ["no questions with an answer", "'7'"],
    ),
}


@pytest.mark.parametrize("case", QUESTIONS)
def test_questions(case: str, refused: Refused, tmp_path: Path) -> None:
    content, expected = QUESTIONS[case]
    (tmp_path / "data.json").write_text(content, encoding="utf-8")
    message = refused("calibrate", "bert", "--data", tmp_path / "data.json")
    for fragment in expected:
        assert fragment in message


@pytest.mark.parametrize("name", ["bert", "segformer"])
def test_fewer_samples_than_asked(name: str, refused: Refused, data: dict[str, Path]) -> None:
    message = refused("calibrate", name, "--set", "calibration.samples=1000")
    assert str(data[name]) in message and "1000" in message and "--set calibration.samples" in message


@pytest.mark.parametrize("name", ["bert", "segformer"])
def test_data_that_is_not_there(name: str, refused: Refused) -> None:
    message = refused("calibrate", name, "--data", "/no/such/data")
    assert "DATA=/no/such/data" in message


@pytest.mark.parametrize("name", ["bert", "segformer"])
def test_fewer_held_out_samples_than_asked_show_before_the_export(
    name: str, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(*_: object, **__: object) -> None:
        raise AssertionError("the export takes minutes; the data must be read first")

    monkeypatch.setattr("pipeline.model.onnx_export.export_onnx", export)
    message = refused("export", name, "--set", "verification.samples=1000")
    assert "evaluation takes 1000, all different" in message and "--set verification.samples" in message


def test_a_folder_of_scenes_is_no_squad_file(refused: Refused, data: dict[str, Path]) -> None:
    message = refused("calibrate", "bert", "--data", data["segformer"])
    assert "is a folder where a file is expected; it holds images/, masks/" in message


def held_out_masks(folder: Path, name: str, change: Callable[[Path], object]) -> None:
    """Changes the masks that calibration does not take."""
    recipe = recipe_for(name, folder, folder, folder)
    pairs = segmentation.find_pairs(folder)
    kept = {mask for _, mask in tasks.take(pairs, "calibration", recipe, segmentation.SAMPLES)}
    for _, mask in pairs:
        if mask not in kept:
            change(mask)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p.write_bytes(b""), "cannot be read as an image: it is empty"),
        (lambda p: image(p, np.full((64, 64), 9, np.uint8)), "labels [9] outside the 4 classes"),
        (
            lambda p: image(p, np.full((64, 64), 255, np.uint8)),
            "cannot judge: no pixel of the 8 masks is labelled: all are ignored",
        ),
    ],
    ids=["damaged", "labels", "ignored"],
)
def test_held_out_masks_of_no_use_show_before_the_work(
    change: Callable[[Path], object], said: str, refused: Refused, tmp_path: Path
) -> None:
    folder = tiny.scenes(tmp_path / "scenes", count=16)
    held_out_masks(folder, "segformer", change)
    assert said in refused("quantize", "segformer", "--data", folder)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("question", "is it \ud83d?", "question of question 'q15' is damaged: character 6 is U+D83D"),
        ("question", "what " * 40 + "?", "question 'q15' leaves no room for its context in 32 tokens"),
        ("question", 7, "question of question 'q15' is int"),
        ("answers", [{"text": "nothing", "answer_start": 0}], "the answer 'nothing' is nowhere in its context"),
    ],
)
def test_questions_of_no_use_show_before_the_work(
    key: str, value: Any, said: str, refused: Refused, tmp_path: Path
) -> None:
    """All 16 are taken, for calibration or to judge by."""
    path = tiny.squad(tmp_path / "squad.json", count=16)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["data"][0]["paragraphs"][15]["qas"][0][key] = value
    path.write_text(json.dumps(content), encoding="utf-8")
    assert said in refused("quantize", "bert", "--data", path)


def test_a_file_is_no_folder_of_scenes(refused: Refused, data: dict[str, Path]) -> None:
    assert "images" in refused("calibrate", "segformer", "--data", data["bert"])


def test_questions_longer_than_the_input(refused: Refused) -> None:
    for stage in ("quantize", "calibrate"):
        message = refused(stage, "bert", "--set", "shapes.sequence_length=8")
        assert "no room" in message and "shapes.sequence_length" in message


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        ("text\tlabel\nred boat\tLABEL_7\n", "table.tsv", ["row 1", "'LABEL_7'", "LABEL_0"]),
        ("", "table.tsv", ["table.tsv is empty"]),
        ('{"text": "a"}\n{"label": 1}\n', "table.jsonl", ["line 2", "text"]),
        ("not json\n", "table.jsonl", ["line 1"]),
        ("red boat\n", "table.tsv", ["row 1", "None"]),
        (None, None, ["DATA=file.tsv"]),
    ],
    ids=["label", "empty", "jsonl-key", "jsonl", "no-label", "no-data"],
)
def test_tables(
    content: str | None,
    name: str | None,
    expected: list[str],
    cli: Cli,
    checkpoints: dict[str, Path],
    data: dict[str, Path],
    tmp_path: Path,
) -> None:
    recipe = recipe_for("classifier", tmp_path / "exports", checkpoints["classifier"], data["classifier"])
    assert cli("quantize", "bert", *options_of(recipe)).code == 0
    before = snapshot(recipe.folder)
    recipe = recipe.model_copy(update={"data": None})
    if name is not None and content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
        recipe = recipe.model_copy(update={"data": str(tmp_path / name)})
    for stage in ("quantize", "calibrate"):
        answer = cli(stage, "bert", *options_of(recipe), "--set", "calibration.samples=1")
        assert answer.code == 2 and answer.err.count("error: ") == 1, answer
        for fragment in expected:
            assert fragment in answer.err
        assert snapshot(recipe.folder) == before


def test_calibration_data_with_values_that_are_no_numbers(
    cli: Cli, copy_of: Copy, data: dict[str, Path], tmp_path: Path
) -> None:
    checkpoint, scenes = copy_of("segformer"), Path(shutil.copytree(data["segformer"], tmp_path / "scenes"))
    edit_json(checkpoint / "preprocessor_config.json", image_mean=0, image_std=1e-40)  # values beyond float32
    recipe = recipe_for("segformer", tmp_path / "exports", checkpoint, scenes, calibration__samples=12)
    answer = cli("quantize", "segformer", *options_of(recipe))
    assert answer.code == 2 and "pixel_values: holds NaN or infinite values" in answer.err
    files = sorted((scenes / "images").iterdir())
    for index in np.random.default_rng(recipe.seed).permutation(len(files))[: processing_check.CHECKED]:
        image(files[index], np.zeros((64, 64, 3), np.uint8))  # what quantize looks at is finite
    assert cli("quantize", "segformer", *options_of(recipe)).code == 0
    before = snapshot(recipe.folder)
    answer = cli("calibrate", "segformer", *options_of(recipe))
    assert answer.code == 2 and "pixel_values of sample 8 has NaN or infinite values" in answer.err
    assert snapshot(recipe.folder) == before


def test_activations_that_overflow_are_named(cli: Cli, copy_of: Copy, data: dict[str, Path], tmp_path: Path) -> None:
    checkpoint = copy_of("bert")

    def grow(weights: dict[str, np.ndarray]) -> None:
        for part in ("intermediate", "output"):  # finite weights, infinite products
            weights[f"bert.encoder.layer.0.{part}.dense.weight"] *= np.float32(1e30)

    edit_weights(checkpoint, grow)
    recipe = recipe_for("bert", tmp_path / "exports", checkpoint, data["bert"])
    assert cli("quantize", "bert", *options_of(recipe), "--no-rewrites").code == 0
    answer = cli("calibrate", "bert", *options_of(recipe), "--no-rewrites")
    assert answer.code == 2 and "calibration stopped" in answer.err
    assert "layer.0" in answer.err and "infinite" in answer.err


# --- patterns ---


@pytest.mark.parametrize("where", ["enable", "disable"])
def test_a_pattern_that_matches_no_quantizer(where: str, refused: Refused) -> None:
    message = refused("lower", "bert", "--set", f"placement.{where}=[qa_output._input_quantizer]")
    assert "'qa_output._input_quantizer' matches no quantizer" in message
    assert "Did you mean qa_outputs._input_quantizer" in message


def test_a_placement_that_leaves_nothing_on(refused: Refused) -> None:
    assert "no quantizer on" in refused("lower", "bert", "--set", "placement.disable=['*']")


# --- altered artifacts ---


@pytest.mark.parametrize("file", ["quantizers.json", "calibration.json"])
@pytest.mark.parametrize("damage", ["altered", "cut", "missing", "unrecorded"])
def test_an_artifact_that_nothing_vouches_for(
    file: str, damage: str, cli: Cli, calibrated: dict[str, Recipe], tmp_path: Path
) -> None:
    folder = tmp_path / "exports"
    shutil.copytree(calibrated["bert"].folder, folder)
    recipe = calibrated["bert"].model_copy(update={"folder": folder})
    if damage == "altered":
        content = bytearray((folder / file).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / file).write_bytes(content)
    elif damage == "cut":
        cut_in_half(folder / file)
    elif damage == "missing":
        (folder / file).unlink()
    else:
        manifest = Manifest.read(folder)
        del manifest.files[file]
        (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    before = snapshot(folder)
    answer = cli("lower", "bert", *options_of(recipe))
    assert answer.code == 2 and answer.err.count("error: ") == 1
    assert file in answer.err and [recipe_of(words) for words in printed(answer.err)] == [recipe]
    assert {"altered": "digest", "cut": "digest", "missing": "missing"}.get(damage, "not recorded") in answer.err
    assert snapshot(folder) == before


def test_a_manifest_that_is_none(cli: Cli, calibrated: dict[str, Recipe], tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    shutil.copytree(calibrated["bert"].folder, folder)
    (folder / "manifest.json").write_text("[]", encoding="utf-8")
    before = snapshot(folder)
    recipe = calibrated["bert"].model_copy(update={"folder": folder})
    answer = cli("lower", "bert", *options_of(recipe))
    assert answer.code == 2 and "manifest.json is not a manifest" in answer.err
    assert snapshot(folder) == before


@pytest.fixture
def built(tmp_path: Path) -> Recipe:
    """Returns the recipe of a small folder with an ONNX Runtime engine and its report."""
    qdq_models.export(tmp_path / "bert", "onnxruntime")
    recipe = qdq_models.recipe(tmp_path / "bert", "onnxruntime", **{"budgets.speedup": 0.0})
    build.run_stage("engine", recipe)
    build.run_stage("verify", recipe)
    return recipe


def test_an_engine_whose_digest_does_not_match(built: Recipe, cli: Cli) -> None:
    engine = built.folder / "onnxruntime" / "model.ort.onnx"
    content = bytearray(engine.read_bytes())
    content[-1] ^= 1
    engine.write_bytes(content)
    before = snapshot(built.folder)
    answer = cli("verify", "bert", "--backend", "onnxruntime", "--output", built.folder)
    assert answer.code == 2 and "model.ort.onnx was altered: its digest does not match" in answer.err
    assert snapshot(built.folder) == before
    with pytest.raises(ArtifactError, match=r"model\.ort\.onnx was altered"):
        load_engine(built.folder)


def test_a_report_whose_digest_does_not_match(built: Recipe) -> None:
    report = built.folder / "report.json"
    report.write_text(report.read_text(encoding="utf-8").replace('"fail"', '"pass"') + " ", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"report\.json was altered"):
        build.read_report(built)


# --- a full disk, a folder that cannot be written, Ctrl-C ---


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("target", ["calibration.histograms.write_histograms", "pipeline.artifacts.flush"])
def test_a_full_disk(target: str, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, full_disk)
    message = refused("calibrate", "bert", "--set", "calibration.samples=4")
    assert "the disk is full" in message and "MiB free" in message and "unchanged" in message


def test_an_output_folder_that_is_a_file(cli: Cli, tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    (tmp_path / "exports").write_text("mine", encoding="utf-8")
    answer = cli("quantize", "bert", "--checkpoint", checkpoints["bert"], "--output", tmp_path / "exports")
    assert answer.code == 2 and answer.err.count("error: ") == 1 and str(tmp_path / "exports") in answer.err
    assert (tmp_path / "exports").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    "moment",
    [
        "pipeline.model.loading.open_source",
        "pipeline.tasks.question_answering.encode",
        "pipeline.model.collecting.collect",
        "calibration.histograms.write_histograms",
        "pipeline.artifacts.sha256",
    ],
)
def test_ctrl_c(
    moment: str, cli: Cli, calibrated: dict[str, Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "exports"
    shutil.copytree(calibrated["bert"].folder, folder)
    before = snapshot(folder)
    recipe = calibrated["bert"].model_copy(update={"folder": folder})
    monkeypatch.setattr(moment, interrupt)
    answer = cli("calibrate", "bert", *options_of(recipe), "--set", "calibration.samples=4")
    assert answer.code == 2 and "interrupted" in answer.err and "Traceback" not in answer.err
    assert snapshot(folder) == before
    assert not list(folder.glob(".*.partial"))


@pytest.mark.parametrize("file", ["config.json", "quantizers.json"])
def test_what_prepares_the_inputs_is_judged_with_the_engine(built: Recipe, cli: Cli, file: str) -> None:
    path = built.folder / file
    path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")
    answer = cli("verify", "bert", "--backend", "onnxruntime", "--output", built.folder)
    assert answer.code == 2 and f"{file} was altered: its digest does not match" in answer.err


@pytest.mark.parametrize("rewrites", [[], ["--no-rewrites"]], ids=["rewritten", "as it is"])
def test_outputs_of_zeros_show_without_rewrites_too(rewrites: list[str], refused: Refused, copy_of: Copy) -> None:
    folder = copy_of("bert")
    edit_weights(folder, zero("qa_outputs"))
    assert "gives 0 in all of" in refused("quantize", "bert", "--checkpoint", folder, *rewrites)


@pytest.mark.parametrize("part", ["attention.self.query", "layer.1.output.dense"])
def test_a_projection_of_zeros_leaves_an_engine_and_its_report(
    part: str, cli: Cli, copy_of: Copy, data: dict[str, Path], tmp_path: Path
) -> None:
    checkpoint = copy_of("encoder")
    edit_weights(checkpoint, zero(part))
    recipe = recipe_for("encoder", tmp_path / "exports", checkpoint, data["encoder"])
    options = ("--backend", "onnxruntime", "--set", "verification.runs=5", "--set", "budgets.speedup=0")
    answer = cli("engine", "bert", *options_of(recipe), *options)
    assert "verdict" in answer.out, answer  # which one is another question
    page = (recipe.folder / "report.html").read_text(encoding="utf-8")
    assert "could not be drawn" not in page and "Agreement" in page
