"""The next token of a text: where it is judged, and that a decoder does not see it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers import head_data, tiny
from helpers.runs import recipe_for
from pipeline.errors import InputError
from pipeline.model import loading
from pipeline.recipe import Recipe
from pipeline.tasks import _tokens
from pipeline.tasks import causal_language_modeling as task

TEXTS = ["the red boat is in the harbour", "a", "where is it? " * 20]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.bert(tmp_path_factory.mktemp("decoder") / "checkpoint", "BertLMHeadModel", is_decoder=True)


@pytest.fixture
def recipe(checkpoint: Path, tmp_path: Path) -> Recipe:
    return recipe_for("bert", tmp_path / "made", checkpoint, head_data.lines(tmp_path / "data.txt"))


def test_labels_are_the_tokens_that_follow(checkpoint: Path, recipe: Recipe) -> None:
    inputs, labels = task.encode(checkpoint, recipe, TEXTS)
    for ids, mask, label in zip(inputs["input_ids"], inputs["attention_mask"], labels["label"], strict=True):
        count = int(mask.sum())
        assert label[: count - 1].tolist() == ids[1:count].tolist()
        assert set(label[count - 1 :].tolist()) <= {_tokens.IGNORED}
    for name, value in task.own_encoding(checkpoint, recipe, TEXTS).items():
        np.testing.assert_array_equal(inputs[name], value, name)


def test_perplexity_is_what_transformers_gives(checkpoint: Path, recipe: Recipe) -> None:
    import torch
    import transformers

    inputs, labels = task.encode(checkpoint, recipe, TEXTS)
    model = transformers.BertLMHeadModel.from_pretrained(checkpoint, is_decoder=True).eval()
    feeds = {name: torch.from_numpy(value) for name, value in inputs.items()}
    with torch.no_grad():
        own = model(**feeds, labels=torch.where(feeds["attention_mask"] == 1, feeds["input_ids"], -100))
    assert task.further({"logits": own.logits.numpy()}, labels)["perplexity"] == pytest.approx(
        float(own.loss.exp()), rel=1e-5
    )


def test_no_token_sees_those_that_follow(checkpoint: Path, recipe: Recipe) -> None:
    source = loading.open_source(recipe)
    inputs, _ = task.encode(checkpoint, recipe, TEXTS[:1])
    other = {**inputs, "input_ids": inputs["input_ids"].copy()}
    other["input_ids"][0, 5] = 20
    for model in (loading.float_model(source), loading.quantized_model(source, recipe)):
        from pipeline.quantization import quantizers

        for _, quantizer in quantizers(model):
            quantizer.disable_quant()
        before, after = (loading.run_torch(model, feeds, ("logits",))["logits"] for feeds in (inputs, other))
        np.testing.assert_allclose(after[0, :5], before[0, :5], atol=1e-5)
        assert np.abs(after[0, 5:9] - before[0, 5:9]).max() > 1e-3


def test_a_text_is_continued_from_its_last_own_token(checkpoint: Path, recipe: Recipe) -> None:
    inputs, labels = task.preprocess(checkpoint, ["the red boat", "\u200b"], recipe)
    assert labels["last"].tolist() == [3, 0]
    logits = np.zeros((*inputs["input_ids"].shape, len(tiny.VOCABULARY)), np.float32)
    logits[0, 3, tiny.VOCABULARY.index("is")] = logits[1, 0, tiny.VOCABULARY.index("boat")] = 5
    answer = task.postprocess(checkpoint, {"logits": logits}, labels)
    assert [tokens[0]["token"] for tokens in answer] == ["is", "boat"]


def test_a_language_model_that_sees_what_it_predicts_is_refused(tmp_path: Path) -> None:
    checkpoint = tiny.bert(tmp_path / "checkpoint", "BertLMHeadModel")
    recipe = recipe_for("bert", tmp_path / "made", checkpoint, head_data.lines(tmp_path / "data.txt"))
    with pytest.raises(InputError, match="is_decoder = False: every token of this BertLMHeadModel sees the ones"):
        loading.open_source(recipe)
