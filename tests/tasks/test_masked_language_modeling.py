"""Masks: the same in every run and in every company, by the checkpoint's own mask token, and filled in again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers import head_data, tiny
from helpers.runs import recipe_for
from pipeline.errors import InputError
from pipeline.recipe import Recipe
from pipeline.tasks import masked_language_modeling as task

MASK = tiny.VOCABULARY.index("[MASK]")
TEXTS = ["the red boat is in the harbour", "a", "where is it? " * 20, "\u200b"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.bert(tmp_path_factory.mktemp("masks") / "checkpoint", "BertForMaskedLM")


@pytest.fixture
def recipe(checkpoint: Path, tmp_path: Path) -> Recipe:
    return recipe_for("bert", tmp_path / "made", checkpoint, head_data.lines(tmp_path / "data.txt"))


def test_a_share_of_the_tokens_is_masked_and_known(checkpoint: Path, recipe: Recipe) -> None:
    from pipeline.tasks import _text

    inputs, labels = task.encode(checkpoint, recipe, TEXTS)
    plain = _text.encode(_text.tokenizer(checkpoint, 32), TEXTS)
    masked = labels["label"] != task._tokens.IGNORED
    np.testing.assert_array_equal(inputs["input_ids"] == MASK, masked)
    np.testing.assert_array_equal(np.where(masked, labels["label"], inputs["input_ids"]), plain["input_ids"])
    assert masked.sum(1).tolist() == [1, 1, round(0.15 * 30), 0], "one at least, where a text has tokens at all"
    special = np.isin(plain["input_ids"], [0, 2, 3])
    assert not (masked & special).any()


def test_masks_do_not_depend_on_the_company_and_do_on_the_seed(checkpoint: Path, recipe: Recipe) -> None:
    together, _ = task.encode(checkpoint, recipe, TEXTS)
    for i, text in enumerate(TEXTS):
        alone, _ = task.encode(checkpoint, recipe, [text])
        np.testing.assert_array_equal(alone["input_ids"][0], together["input_ids"][i])
    other, _ = task.encode(checkpoint, recipe.model_copy(update={"seed": 5}), TEXTS)
    assert (other["input_ids"] != together["input_ids"]).any()


def test_inputs_are_those_of_the_checkpoints_own_tokenizer(checkpoint: Path, recipe: Recipe) -> None:
    found, _ = task.encode(checkpoint, recipe, TEXTS)
    own = task.own_encoding(checkpoint, recipe, TEXTS)
    assert set(own) == set(found)
    for name, value in own.items():
        np.testing.assert_array_equal(found[name], value, name)


@pytest.mark.parametrize("named", ["boat", {"content": "boat", "special": True}, None, "never"])
def test_the_mask_token_is_the_checkpoints_own(named: object, checkpoint: Path, recipe: Recipe, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"mask_token": named}), encoding="utf-8")
    if named == "never":
        with pytest.raises(InputError, match="has no token 'never' to mask others with"):
            task.encode(folder, recipe, TEXTS)
        return
    inputs, labels = task.encode(folder, recipe, TEXTS[:1])
    (found,) = inputs["input_ids"][labels["label"] != task._tokens.IGNORED]
    assert found == (MASK if named is None else tiny.VOCABULARY.index("boat"))


def test_masks_are_filled_in(checkpoint: Path, recipe: Recipe) -> None:
    inputs, labels = task.preprocess(checkpoint, ["the [MASK] is in the [MASK]", "[MASK]"], recipe)
    logits = np.zeros((*inputs["input_ids"].shape, len(tiny.VOCABULARY)), np.float32)
    logits[..., tiny.VOCABULARY.index("boat")] = 3
    answer = task.postprocess(checkpoint, {"logits": logits}, labels)
    assert [len(masks) for masks in answer] == [2, 1] and answer[0][0][0]["token"] == "boat"


def test_a_text_without_a_mask_is_told(checkpoint: Path, recipe: Recipe) -> None:
    with pytest.raises(InputError, match=r"the engine fills \[MASK\] in; 'the boat' has none"):
        task.preprocess(checkpoint, ["[MASK]", "the boat"], recipe)


def test_without_data_texts_are_generated(checkpoint: Path, recipe: Recipe) -> None:
    without = recipe.model_copy(update={"data": None})
    drawn = {split: task.samples(without, {}, split, 8, folder=checkpoint) for split in ("calibration", "evaluation")}
    assert all(len(set(texts)) == 8 for texts in drawn.values())
    assert not set(drawn["calibration"]) & set(drawn["evaluation"])
