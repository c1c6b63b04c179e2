"""What an engine may be fed: checked before any runtime sees it, the same for every backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.runs import recipe_for
from helpers.usable import USABLE
from pipeline import families, load_engine
from pipeline.errors import InputError
from pipeline.families._engine_inputs import Limits, check
from pipeline.recipe import Recipe
from pipeline.stages import build

BERT = {
    name: Limits(("batch", "sequence"), 0, high, {"sequence": 16})
    for name, high in (("input_ids", 100), ("attention_mask", 2), ("token_type_ids", 2))
}
PIXELS = {"pixel_values": Limits(("batch", 3, 8, 8))}


def text(shape: tuple[int, ...] = (2, 8), **changes: Any) -> dict[str, np.ndarray]:
    return {name: np.ones(shape, np.int64) for name in BERT} | changes


@pytest.mark.parametrize(
    "changes",
    [{}, {"attention_mask": np.ones((2, 8), bool)}, {"input_ids": np.full((2, 8), 99, np.int32)}],
    ids=["int64", "bool mask", "int32"],
)
def test_what_a_model_takes_passes(changes: dict[str, Any]) -> None:
    check(text(**changes), BERT)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"input_ids": np.full((2, 8), 100)},
            r"input_ids: holds 100; expected integers from 0 to 99 \[batch, sequence\]",
        ),
        ({"input_ids": np.full((2, 8), -1)}, "input_ids: holds -1"),
        ({"input_ids": np.ones((2, 8), np.float32)}, "input_ids: type float32"),
        ({"attention_mask": np.full((2, 8), 2)}, "attention_mask: holds 2; expected integers from 0 to 1"),
        ({"attention_mask": np.ones((1, 8), np.int64)}, "attention_mask: batch is 1, but 2 in an earlier input"),
        ({"attention_mask": np.ones((2, 7), np.int64)}, "attention_mask: sequence is 7"),
        ({"token_type_ids": np.ones(8, np.int64)}, r"token_type_ids: shape \[8\]"),
        (text((2, 17)), "input_ids: sequence is 17, 16 at most"),
        (text((0, 8)), r"input_ids: shape \[0, 8\]"),
    ],
)
def test_ids_of_another_kind_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check(text(**changes), BERT)


def test_all_faults_are_in_one_message() -> None:
    bad = text(input_ids=np.full((2, 8), 100), token_type_ids=np.full((2, 8), 7))
    with pytest.raises(InputError, match=r"^([^\n]+\n){2}[^\n]+$"):
        check(bad, BERT)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.full((1, 3, 8, 8), np.nan, np.float32), "holds NaN or infinite values; expected finite floats"),
        (np.full((1, 3, 8, 8), np.inf, np.float32), "holds NaN or infinite"),
        (np.ones((1, 3, 8, 8), np.uint8), "type uint8"),
        (np.ones((1, 4, 8, 8), np.float32), r"shape \[1, 4, 8, 8\]; expected finite floats \[batch, 3, 8, 8\]"),
        (np.ones((3, 8, 8), np.float32), r"shape \[3, 8, 8\]"),
    ],
)
def test_pixels_of_another_kind_are_refused(value: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check({"pixel_values": value}, PIXELS)


def test_large_finite_values_pass() -> None:
    """Their sum overflows; they themselves do not."""
    check({"pixel_values": np.full((1, 3, 8, 8), 3e38, np.float32)}, PIXELS)
    worst = np.full((1, 3, 8, 8), 3e38, np.float32)
    worst[0, 0, 0, 0] = -np.inf
    with pytest.raises(InputError, match="holds NaN or infinite"):
        check({"pixel_values": worst}, PIXELS)


def test_every_family_describes_every_input(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    for name in families.names():
        family, config = families.get(name), json.loads((checkpoints[name] / "config.json").read_text(encoding="utf-8"))
        limits = family.input_limits(config, recipe_for(name, tmp_path, checkpoints[name], tmp_path))
        assert set(limits) == set(family.INPUTS)
    assert families.get("bert").input_limits({}, Recipe.load("bert"))["input_ids"].high == 30522, "BERT's default"


@pytest.mark.parametrize("backend", USABLE)
def test_an_engine_of_a_real_model_refuses_them(backend: str, exported: Any, tmp_path: Path) -> None:
    import shutil

    source = exported("bert")
    folder = Path(shutil.copytree(source.folder, tmp_path / "bert"))
    recipe = source.model_copy(update={"folder": folder, "backend": backend})
    for stage in ("lower", "engine"):
        build.run_stage(stage, recipe)
    engine = load_engine(folder, backend=backend, threads=1, unverified=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    feeds = {name: np.ones((2, 16), np.int64) for name in engine.input_names}
    assert engine(feeds)["start_logits"].shape == (2, 16)
    with pytest.raises(InputError, match=f"input_ids: holds {config['vocab_size']}"):
        engine({**feeds, "input_ids": np.full((2, 16), config["vocab_size"])})
    with pytest.raises(InputError, match="attention_mask: sequence is 7"):
        engine({**feeds, "attention_mask": np.ones((2, 7), np.int64)})
