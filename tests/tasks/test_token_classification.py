"""Labels of words at their first sub-words, as transformers aligns them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import head_data, tiny
from helpers.runs import recipe_for
from pipeline.errors import InputError
from pipeline.recipe import Recipe
from pipeline.tasks import token_classification as task

SAMPLES = [
    {"words": ["the", "boats", ".", "\u200b", "harbourtown"], "labels": [0, 1, 0, 2, 3]},
    {"words": ["U.S.", "in", "xyzzy"], "labels": [1, 0, 3]},
    {"words": ["boat"] * 40, "labels": [1] * 40},
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = dict(enumerate(head_data.TAGS))
    return tiny.bert(tmp_path_factory.mktemp("tags") / "checkpoint", "BertForTokenClassification", id2label=names)


@pytest.fixture
def recipe(checkpoint: Path, tmp_path: Path) -> Recipe:
    return recipe_for("bert", tmp_path / "made", checkpoint, head_data.tagged(tmp_path / "data.conll"))


def test_labels_stand_where_transformers_puts_them(checkpoint: Path, recipe: Recipe) -> None:
    """As its own examples align them: at the first token of a word, -100 at all others."""
    from transformers import AutoTokenizer

    _, labels = task.encode(checkpoint, recipe, SAMPLES)
    own = AutoTokenizer.from_pretrained(checkpoint)
    encoded = own([s["words"] for s in SAMPLES], is_split_into_words=True, truncation=True, max_length=32,
                  padding="max_length")  # fmt: skip
    for row, sample in enumerate(SAMPLES):
        expected, before = [], None
        for word in encoded.word_ids(row):
            expected.append(-100 if word is None or word == before else sample["labels"][word])
            before = word
        assert labels["label"][row].tolist() == expected


def test_inputs_are_those_of_the_checkpoints_own_tokenizer(checkpoint: Path, recipe: Recipe) -> None:
    found, _ = task.encode(checkpoint, recipe, SAMPLES)
    for name, value in task.own_encoding(checkpoint, recipe, SAMPLES).items():
        np.testing.assert_array_equal(found[name], value, name)


def logits_of(classes: np.ndarray) -> dict[str, np.ndarray]:
    return {"logits": np.eye(len(head_data.TAGS), dtype=np.float32)[classes]}


def test_right_labels_score_1_whatever_other_tokens_say(checkpoint: Path, recipe: Recipe) -> None:
    _, labels = task.encode(checkpoint, recipe, SAMPLES)
    found = task.predict(logits_of(np.where(labels["label"] == task.IGNORED, 3, labels["label"])), labels)
    assert task.score(found, labels) == 1 and task.agreement(found, found) == 1
    assert [len(row) for row in found] == [4, 3, 30], "one word has no token; the last are cut"
    assert task.judged(logits_of(np.zeros((3, 32), int)), labels)["logits"].shape == (37, 4)


def test_samples_are_read_and_encoded(checkpoint: Path, recipe: Recipe) -> None:
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    raw = task.samples(recipe, config, "evaluation", 8, folder=checkpoint)
    inputs, labels = task.encode(checkpoint, recipe, raw)
    assert inputs["input_ids"].shape == (8, 32) and labels["label"].dtype == np.int64
    truth = task.predict(logits_of(np.maximum(labels["label"], 0)), labels)
    assert [row[:3] for row in truth] == [["O", "B-THING", "I-THING"]] * 8
    assert set(task.per_class(task.tally(truth, labels), labels)) == {"PLACE", "THING"}


def test_texts_and_words_are_answered_word_by_word(checkpoint: Path, recipe: Recipe) -> None:
    for raw in ("the boats", ["the boats"], [["the", "boats"]]):
        inputs, labels = task.preprocess(checkpoint, raw, recipe)
        (answer,) = task.postprocess(checkpoint, logits_of(np.full(inputs["input_ids"].shape, 1)), labels)
        assert answer == [{"word": "the", "label": "B-THING"}, {"word": "boats", "label": "B-THING"}]
    inputs, labels = task.preprocess(checkpoint, [["boat", "\u200b", *["boat"] * 40]], recipe)
    (answer,) = task.postprocess(checkpoint, logits_of(np.zeros(inputs["input_ids"].shape, int)), labels)
    assert [word["label"] for word in answer] == ["O", None, *["O"] * 29, *[None] * 11]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (7, "found int"),
        ([], "found list"),
        ([7], "found list"),
        ([["a", None]], "a word of text 1 of 1 is NoneType, not a string"),
        ("a \ud800", r"a word of text 1 of 1 is damaged: character 0 is U\+D800"),
    ],
)
def test_an_engine_says_what_it_takes(raw: Any, said: str, checkpoint: Path, recipe: Recipe) -> None:
    with pytest.raises(InputError, match=said):
        task.preprocess(checkpoint, raw, recipe)
