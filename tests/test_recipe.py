"""The recipe: defaults, file and options in that order, frozen, every fault in one message."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from helpers.messages import all_of
from pipeline import families
from pipeline.errors import InputError
from pipeline.recipe import Recipe


def test_the_model_alone_is_enough() -> None:
    recipe = Recipe.load("bert")
    assert (recipe.family, recipe.folder, recipe.model) == ("bert", Path("exports/bert"), "bert")
    assert recipe.checkpoint is None and recipe.data is None and recipe.backend == "auto" and recipe.rewrites
    assert recipe.budgets.relative_drop == 0.01


@pytest.mark.parametrize("family", families.names())
def test_every_family_has_defaults_that_are_valid(family: str) -> None:
    recipe = Recipe.load(family)
    for dotted, value in families.get(family).SETTINGS.items():
        section, _, name = dotted.partition(".")
        assert getattr(getattr(recipe, section), name) == value


def test_options_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('backend = "openvino"\n[calibration]\nsamples = 7\nmethod = "mse"\n', encoding="utf-8")
    defaults = {"calibration.samples": 3, "calibration.batch_size": 2, "seed": 5}
    recipe = Recipe.load("bert", file, {"calibration.method": "max", "backend": None}, defaults)
    found = recipe.calibration
    assert (found.samples, found.batch_size, found.method) == (7, 2, "max")
    assert (recipe.backend, recipe.seed) == ("openvino", 5)
    assert found.percentile == 99.999, "what nobody names keeps its default"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.toml", "[shapes]\nsequence_length = 64\nbatches = [8, 2]\n[placement]\ndisable = ['*add*']"),
        ("r.yaml", "shapes: {sequence_length: 64, batches: [8, 2]}\nplacement: {disable: ['*add*']}"),
        ("r.yml", "shapes:\n  sequence_length: 64\n  batches: [2, 8, 8]\nplacement:\n  disable: ['*add*']\n"),
    ],
)
def test_toml_and_yaml_say_the_same(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    recipe = Recipe.load("bert", tmp_path / name)
    assert recipe.shapes.batches == (1, 2, 8), "sorted, once each, and always 1"
    assert recipe.shapes.sequence_length == 64 and recipe.placement.disable == ("*add*",)


def test_it_is_frozen() -> None:
    recipe = Recipe.load("bert")
    with pytest.raises(ValidationError, match=all_of("seed", "frozen")):
        recipe.seed = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match=all_of("samples", "frozen")):
        recipe.calibration.samples = 3  # type: ignore[misc]


def test_what_is_recorded_gives_the_same_recipe_back() -> None:
    recipe = Recipe.load(
        "segformer", overrides={"shapes.image_size": 256, "placement.enable": ["a*", "b*"], "data": "x", "seed": 4}
    )
    recorded = recipe.model_dump(mode="json", exclude={"folder"})
    before = copy.deepcopy(recorded)
    assert Recipe.load("segformer", defaults=recorded) == recipe
    changed = Recipe.load("segformer", None, {"calibration.samples": 1, "shapes.image_size": 64}, recorded)
    assert changed.calibration.samples == 1 and changed.shapes.image_size == (64, 64)
    assert recorded == before, "what the caller gave is not changed"


@pytest.mark.parametrize(
    ("overrides", "fragments"),
    [
        ({"shapes.image_size": 31}, ["shapes.image_size = 31", "32"]),
        ({"shapes.sequence_length": 0}, ["shapes.sequence_length = 0"]),
        ({"shapes.batches": []}, ["shapes.batches", "between 1 and 1024"]),
        ({"shapes.batches": [0]}, ["shapes.batches", "between 1 and 1024"]),
        ({"shapes.batches": [2000]}, ["shapes.batches"]),
        ({"calibration.percentile": 50}, ["calibration.percentile = 50", "greater than 50"]),
        ({"calibration.percentile": 100.1}, ["calibration.percentile = 100.1"]),
        ({"calibration.percentile": math.nan}, ["calibration.percentile = nan"]),
        ({"calibration.batch_size": 0}, ["calibration.batch_size = 0"]),
        ({"calibration.method": "entropie"}, ["calibration.method = 'entropie'", "Did you mean entropy", "percentile"]),
        ({"placement.residual": "all"}, ["placement.residual = 'all'", "none", "both"]),
        ({"placement.enable": "not-a-list"}, ["placement.enable = 'not-a-list'"]),
        ({"budgets.agreement": 1.5}, ["budgets.agreement = 1.5"]),
        ({"budgets.relative_drop": -0.1}, ["budgets.relative_drop = -0.1"]),
        ({"budgets.speedup": math.nan}, ["budgets.speedup = nan"]),
        ({"verification.runs": 1}, ["verification.runs = 1", "5"]),
        ({"verification.threads": 0}, ["verification.threads = 0"]),
        ({"backend": "tensort"}, ["backend = 'tensort'", "Did you mean tensorrt", "onnxruntime"]),
        ({"seed": "x"}, ["seed = 'x'"]),
        ({"shape.image_size": 64}, ["unknown setting 'shape'", "Did you mean shapes"]),
        ({"shapes.imagesize": 64}, ["unknown setting 'shapes.imagesize'", "Did you mean image_size"]),
        ({"calibration": 3}, ["calibration = 3"]),
        ({"calibration.samples.more": 3}, ["calibration.samples"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_faults(overrides: dict[str, Any], fragments: list[str]) -> None:
    with pytest.raises(InputError, match=all_of(*fragments)):
        Recipe.load("bert", overrides=overrides)


def test_an_unknown_family_is_told_with_near_names() -> None:
    with pytest.raises(InputError, match=r"unknown model 'brt'\. Did you mean bert"):
        Recipe.load("brt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.toml", b"a = = 1", "r.toml is not valid TOML"),
        ("r.yaml", b"a: [1", "r.yaml is not valid YAML"),
        ("r.yaml", b"- 1\n- 2", "must be a table of settings, found list"),
        ("r.yaml", b"", "must be a table of settings, found NoneType"),
        ("r.toml", b"\xff\xfe\x00", "r.toml cannot be read"),
        ("r.yaml", b"!!python/object/apply:os.system ['true']", "r.yaml is not valid YAML"),
    ],
)
def test_files_that_are_no_recipe(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        Recipe.load("bert", tmp_path / name)


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        Recipe.load("bert", tmp_path)


@pytest.mark.parametrize(
    ("checkpoint", "name"),
    [(None, "embedded"), ("nvidia/mit-b0", "nvidia/mit-b0"), ("/home/somebody/models/bert/best", "…/bert/best")],
)
def test_tables_name_no_folders_of_the_machine(checkpoint: str | None, name: str) -> None:
    overrides = {"checkpoint": checkpoint} if checkpoint else {}
    assert Recipe.load("bert", overrides=overrides).checkpoint_name == name
