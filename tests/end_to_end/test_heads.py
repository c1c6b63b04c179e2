"""Every head of BERT, from a folder that `save_pretrained` wrote to a verified engine that answers raw text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from helpers import head_data, tiny
from helpers.command_line import Cli
from helpers.runs import options_of, recipe_for, snapshot
from helpers.usable import USABLE
from pipeline import build, families, load_engine
from pipeline.tasks import _heads

# random weights: no accuracy, no agreement; as few runs as may be
RUN = {"budgets.relative_drop": 1.0, "budgets.agreement": 0.0, "budgets.speedup": 0.0, "verification.runs": 5,
       "verification.warmup": 0, "shapes.batches": [1, 3]}  # fmt: skip


@dataclass(frozen=True)
class Head:
    """A head: its data, what its engine is given, and what holds of the answer."""

    architecture: str
    task: str
    metric: str
    data: Callable[[Path], Path]
    raw: Any
    holds: Callable[[Any], bool]
    settings: dict[str, Any] = field(default_factory=dict)  # of config.json
    asked: dict[str, Any] = field(default_factory=dict)  # of the recipe


def labels(*names: str) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


def likely(tokens: list[dict[str, Any]]) -> bool:
    """Returns whether tokens of the vocabulary come in the order of their probabilities."""
    scores = [token["score"] for token in tokens]
    return {token["token"] for token in tokens} <= set(tiny.VOCABULARY) and scores == sorted(scores)[::-1]


HEADS = {
    "token classification": Head(
        "BertForTokenClassification", "token-classification", "f1",
        lambda folder: head_data.tagged(folder / "data.conll"),
        ["the red boat", ["is", "in", "harbourtown"]],
        lambda answer: [[w["word"] for w in words] for words in answer] == [
            ["the", "red", "boat"], ["is", "in", "harbourtown"]]
        and all(w["label"] in head_data.TAGS for words in answer for w in words),
        labels(*head_data.TAGS),
    ),
    "masked language model": Head(
        "BertForMaskedLM", "masked-language-modeling", "accuracy",
        lambda folder: head_data.lines(folder / "data.txt"),
        ["the [MASK] boat is in the [MASK]", "[MASK]"],
        lambda answer: [len(masks) for masks in answer] == [2, 1] and all(map(likely, [*answer[0], *answer[1]])),
    ),
    "causal language model": Head(
        "BertLMHeadModel", "causal-language-modeling", "accuracy",
        lambda folder: head_data.lines(folder / "data.txt"),
        ["the red boat", "where"],
        lambda answer: len(answer) == 2 and all(map(likely, answer)),
        {"is_decoder": True},
    ),
    "pairs": Head(
        "BertForSequenceClassification", "text-classification", "accuracy",
        lambda folder: head_data.pairs(folder / "data.jsonl", lambda i: ("yes", "no", "maybe")[i % 3]),
        [{"text": "the boat is red", "text_pair": "a boat"}, "alone"],
        lambda answer: len(answer) == 2 and set(answer) <= {"yes", "no", "maybe"},
        labels("yes", "no", "maybe"),
    ),
    "regression": Head(
        "BertForSequenceClassification", "text-regression", "pearson",
        lambda folder: head_data.pairs(folder / "data.jsonl", lambda i: i / 7),
        {"text": "the boat is red", "text_pair": "a boat"},
        lambda answer: len(answer) == 1 and isinstance(answer[0], float),
        {"num_labels": 1},
    ),
    "several labels": Head(
        "BertForSequenceClassification", "multi-label-classification", "f1",
        lambda folder: head_data.pairs(folder / "data.jsonl", lambda i: [["a"], ["a", "b"], [], ["c"]][i % 4]),
        ["the boat is red", "a boat"],
        lambda answer: len(answer) == 2 and all(set(given) <= set("abc") for given in answer),
        {**labels(*"abc"), "problem_type": "multi_label_classification"},
    ),
    "hidden states": Head(
        "BertModel", "hidden-states", "cosine",
        lambda folder: head_data.lines(folder / "data.txt"),
        ["the boat", "the boat is red"],
        lambda answer: [states.shape for states in answer] == [(3, 4, 64), (3, 6, 64)],
        asked={"task": "hidden-states"},
    ),
    "pooled output": Head(
        "BertModel", "pooled-output", "cosine",
        lambda folder: head_data.lines(folder / "data.txt"),
        ["the boat", "the boat is red"],
        lambda answer: answer.shape == (2, 64) and abs(answer).max() <= 1,
        asked={"task": "pooled-output"},
    ),
    "answers or none": Head(
        "BertForQuestionAnswering", "question-answering", "f1",
        lambda folder: head_data.squad_v2(folder / "data.json"),
        {"question": "where is the boat?", "context": "the red boat is in the harbour."},
        lambda answer: len(answer) == 1 and answer[0] in "the red boat is in the harbour.",
        asked={"question_answering.no_answer_threshold": 0.0, "question_answering.stride": 4},
    ),
    "next sentence": Head(
        "BertForNextSentencePrediction", "next-sentence-prediction", "accuracy",
        lambda folder: head_data.documents(folder / "data.txt"),
        {"text": "the boat is red", "text_pair": "where is the boat"},
        lambda answer: len(answer) == 1 and answer[0] in ("follows", "does not follow"),
    ),
    "multiple choice": Head(
        "BertForMultipleChoice", "multiple-choice", "accuracy",
        lambda folder: head_data.choices(folder / "data.jsonl"),
        [{"context": "the boat is", "choices": ["red", "in the harbour", "a horse"]}] * 2,
        lambda answer: len(answer) == 2 and answer[0] == answer[1] and answer[0]["text"] == [
            "red", "in the harbour", "a horse"][answer[0]["choice"]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("backend", USABLE)
@pytest.mark.parametrize("case", HEADS)
def test_from_a_checkpoint_to_a_verified_engine(case: str, backend: str, tmp_path: Path) -> None:
    head = HEADS[case]
    checkpoint = tiny.bert(tmp_path / "checkpoint", head.architecture, **head.settings)
    recipe = recipe_for(
        "bert", tmp_path / "made", checkpoint, head.data(tmp_path), backend=backend, **RUN, **head.asked
    )
    report = build(recipe)
    assert (report["verdict"], report["reasons"]) == ("pass", [])
    assert (report["task"], report["accuracy"]["metric"]) == (head.task, head.metric)
    engine = load_engine(recipe.folder, threads=1)
    assert engine.output_names == _heads.expanded(families.get("bert").OUTPUTS[head.task], 2)
    assert head.holds(engine.run(head.raw)), engine.run(head.raw)
    page = (recipe.folder / "report.html").read_text(encoding="utf-8")
    assert "could not be drawn" not in page


# --- data that cannot be used ---

BAD: dict[str, tuple[str, str, str, list[str]]] = {
    "a word without label": (
        "token classification", "data.conll", "the O\nboat\n", ["data.conll line 2 has 1 columns, expected 2"]),
    "a label of another model": (
        "token classification", "data.conll", "the O\n\nboat B-SHIP\n", ["data.conll line 3: label 'B-SHIP' is not"]),
    "more tokens than tags": (
        "token classification", "data.jsonl", '{"tokens": ["a"], "ner_tags": ["O"]}\n{"tokens": ["a"], "tags": []}\n',
        ["data.jsonl line 2 has 1 tokens and 0 tags"]),
    "no tokens": (
        "token classification", "data.jsonl", '{"text": "a"}\n', ["data.jsonl entry 1: expected", "found keys text"]),
    "no data": ("token classification", "", "", ["DATA=file.conll"]),
    "no texts": ("masked language model", "data.txt", " \n\n", ["data.txt is empty"]),
    "a table of another form": (
        "causal language model", "data.csv", "title,body\na,b\n", ["data.csv: its first line must name one column"]),
    "a text alone among pairs": (
        "pairs", "data.jsonl", '{"premise": "a", "hypothesis": "b", "label": "yes"}\n{"text": "a", "label": "no"}\n',
        ["data.jsonl: row 2 has one text, others have a pair"]),
    "a blank hypothesis": (
        "pairs", "data.jsonl", '{"text": "a"}\n{"premise": "a", "hypothesis": " ", "label": "yes"}\n',
        ["data.jsonl line 2: hypothesis is empty"]),
    "a label that is no number": (
        "regression", "data.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": "high"}\n',
        ["data.jsonl row 2: label 'high' is not a number"]),
    "one label where several are": (
        "several labels", "data.jsonl", '{"text": "a", "labels": ["a"]}\n{"text": "b", "label": "a"}\n',
        ["data.jsonl row 2: expected a list of labels, found 'a'"]),
    "a single document": ("next sentence", "data.txt", "one\ntwo\n", ["data.txt has 1 documents; at least 2"]),
    "no pairs": ("next sentence", "data.tsv", "text\tlabel\na\t0\n", ["data.tsv has one text a row"]),
    "other numbers of choices": (
        "multiple choice", "data.jsonl", '{"question": "a", "choices": ["b", "c"], "label": 0}\n'
        '{"question": "a", "choices": ["b", "c", "d"], "label": 0}\n', ["line 2 has 3 choices, line 1 has 2"]),
    "a choice that is not there": (
        "multiple choice", "data.jsonl", '{"question": "a", "choices": ["b", "c"], "label": 0}\n'
        '{"question": "a", "choices": ["b", "c"], "label": 2}\n', ["line 2: label 2 is none of its 2 choices"]),
    "no multiple-choice data": ("multiple choice", "", "", ["a multiple-choice checkpoint needs questions"]),
    "no regression data": ("regression", "", "", ["a regression checkpoint needs texts with numbers"]),
    "no multi-label data": ("several labels", "", "", ["a multi-label checkpoint needs labelled texts"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_data_that_cannot_be_used(case: str, cli: Cli, tmp_path: Path) -> None:
    name, file, content, expected = BAD[case]
    head = HEADS[name]
    checkpoint = tiny.bert(tmp_path / "checkpoint", head.architecture, **head.settings)
    recipe = recipe_for("bert", tmp_path / "made", checkpoint, head.data(tmp_path), **RUN)
    if file:
        (tmp_path / file).write_text(content, encoding="utf-8")
    recipe = recipe.model_copy(update={"data": str(tmp_path / file) if file else None})
    before = snapshot(tmp_path)
    answer = cli("quantize", "bert", *options_of(recipe), "--set", "calibration.samples=1")
    assert answer.code == 2 and answer.err.count("error: ") == 1, answer
    assert answer.out == "" and "Traceback" not in answer.err
    for fragment in expected:
        assert fragment in answer.err
    assert {k: v for k, v in snapshot(tmp_path).items() if k != "made/manifest.json"} == before
