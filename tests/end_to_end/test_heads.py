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
    settings: dict[str, Any] = field(default_factory=dict)


def labels(*names: str) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


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
}  # fmt: skip


@pytest.mark.parametrize("backend", USABLE)
@pytest.mark.parametrize("case", HEADS)
def test_from_a_checkpoint_to_a_verified_engine(case: str, backend: str, tmp_path: Path) -> None:
    head = HEADS[case]
    checkpoint = tiny.bert(tmp_path / "checkpoint", head.architecture, **head.settings)
    recipe = recipe_for("bert", tmp_path / "made", checkpoint, head.data(tmp_path), backend=backend, **RUN)
    report = build(recipe)
    assert (report["verdict"], report["reasons"]) == ("pass", [])
    assert (report["task"], report["accuracy"]["metric"]) == (head.task, head.metric)
    engine = load_engine(recipe.folder, threads=1)
    assert engine.output_names == tuple(families.get("bert").OUTPUTS[head.task])
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
