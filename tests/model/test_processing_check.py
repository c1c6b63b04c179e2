"""The inputs are those of the checkpoint's own processor in transformers: checked once, on the user's data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.command_line import Cli
from helpers.runs import options_of, recipe_for
from pipeline import stages
from pipeline.errors import InputError
from pipeline.model import loading, processing_check
from pipeline.tasks import semantic_segmentation

CopyOf = Callable[[str], Path]


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")


def test_differences_are_named_with_their_share() -> None:
    a = {"x": np.arange(4), "y": np.zeros((2, 2), np.float32)}
    assert processing_check.differences(a, a) == []
    assert processing_check.differences(a, {**a, "x": np.array([0, 1, 2, 4])}) == ["25.0% of x"]
    assert processing_check.differences(a, {**a, "y": np.zeros((2, 3), np.float32)}) == [
        "y has shape [2, 2] instead of [2, 3]"
    ]
    near = np.array([1000.0, 2.0], np.float32)
    assert processing_check.differences({"p": near + np.float32(1e-3)}, {"p": near}) == []
    assert processing_check.differences({"p": near + np.float32(1e-1)}, {"p": near}) == ["100.0% of p"]


@pytest.mark.parametrize("name", ["bert", "classifier", "encoder", "segformer"])
def test_every_task_encodes_as_transformers_does(
    name: str, checkpoints: dict[str, Path], data: dict[str, Path], tmp_path: Path
) -> None:
    recipe = recipe_for(name, tmp_path, checkpoints[name], data[name])
    source = loading.open_source(recipe)
    raw = source.task.samples(recipe, source.config, "calibration", 8, folder=source.folder)
    found, _ = source.task.encode(source.folder, recipe, raw)
    own = source.task.own_encoding(source.folder, recipe, raw)
    assert found.keys() == own.keys() and processing_check.differences(found, own) == []


@pytest.mark.parametrize("changes", [{"do_lower_case": False}, {"do_lower_case": True, "strip_accents": False}])
@pytest.mark.parametrize("name", ["bert", "classifier", "encoder"])
def test_a_tokenizer_file_that_its_settings_overrule_is_made_anew(
    name: str, changes: dict[str, Any], copy_of: CopyOf, data: dict[str, Path], tmp_path: Path
) -> None:
    """As transformers does when it loads one: lower case and accents are the settings' to say."""
    folder = copy_of(name)
    edit(folder / "tokenizer_config.json", **changes)
    content = data[name].read_text(encoding="utf-8")
    (tmp_path / data[name].name).write_text(content.replace("the ", "The "), encoding="utf-8")
    recipe = recipe_for(name, tmp_path / "out", folder, tmp_path / data[name].name)
    stages.run("quantize", recipe)
    source = loading.open_source(recipe)
    raw = source.task.samples(recipe, source.config, "calibration", 8, folder=folder)
    found, _ = source.task.encode(recipe.folder, recipe, raw)
    assert processing_check.differences(found, source.task.own_encoding(folder, recipe, raw)) == []


def test_what_cannot_be_followed_is_refused_before_anything_is_computed(
    copy_of: CopyOf, data: dict[str, Path], tmp_path: Path, cli: Cli
) -> None:
    folder = copy_of("classifier")
    edit(folder / "tokenizer_config.json", padding_side="left")
    recipe = recipe_for("classifier", tmp_path / "out", folder, data["classifier"])
    answer = cli("quantize", "bert", *options_of(recipe))
    assert answer.code == 2 and not (tmp_path / "out" / "quantizers.json").exists()
    assert "its own processor in transformers makes other inputs of 8 of your samples" in answer.err
    assert "of input_ids" in answer.err and "tokenizer_config.json asks for something" in answer.err


def test_other_pixels_are_refused(
    copy_of: CopyOf, data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of("segformer")
    recipe = recipe_for("segformer", tmp_path / "out", folder, data["segformer"])
    honest = semantic_segmentation.own_encoding
    monkeypatch.setattr(
        semantic_segmentation, "own_encoding", lambda *given: {k: v * 1.01 for k, v in honest(*given).items()}
    )
    with pytest.raises(
        InputError, match=r"makes other inputs of 8 of your samples.*% of pixel_values.*preprocessor_con"
    ):
        stages.run("quantize", recipe)


def test_changed_data_are_checked_again(checkpoints: dict[str, Path], data: dict[str, Path], tmp_path: Path) -> None:
    table = Path(shutil.copy(data["classifier"], tmp_path / "table.tsv"))
    recipe = recipe_for("classifier", tmp_path / "out", checkpoints["classifier"], table)
    stages.run("quantize", recipe)
    assert stages.why_stale("quantize", recipe) == []
    table.write_text(table.read_text(encoding="utf-8").replace("red", "blue"), encoding="utf-8")
    assert [reason.partition(" ")[0] for reason in stages.why_stale("quantize", recipe)] == ["data"]
