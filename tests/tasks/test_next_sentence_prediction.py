"""Pairs of sentences, one half of which belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.runs import recipe_for
from pipeline.errors import InputError
from pipeline.tasks import next_sentence_prediction as task

TEXT = "one\ntwo\r\nthree\n\n\nfour\n five \n\nsix\n"


def test_documents_are_parted_by_blank_lines() -> None:
    assert task.documents(TEXT) == [["one", "two", "three"], ["four", "five"], ["six"]]


def test_a_pair_belongs_together_or_comes_from_two_documents() -> None:
    documents = [[f"{number} {i}" for i in range(30)] for number in range(10)]
    rows = task.drawn(documents, 3, "x")
    assert len(rows) == 290 and 100 < sum(row["label"] for row in rows) < 190
    for row in rows:
        (first, at), (second, after) = (text.split() for text in row["text"])
        assert (second == first and int(after) == int(at) + 1) if row["label"] == 0 else second != first
    assert task.drawn(documents, 3, "x") == rows and task.drawn(documents, 4, "x") != rows


@pytest.mark.parametrize("documents", [[], [["a", "b"]], [["a"], ["b"]]])
def test_documents_that_give_no_pairs_are_told(documents: list[list[str]]) -> None:
    with pytest.raises(InputError, match=f"data x has {len(documents)} documents; at least 2 are needed"):
        task.drawn(documents, 0, "x")


def test_tables_of_pairs_have_the_labels_of_bert(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("sentence1\tsentence2\tlabel\na\tb\t0\nc\td\tdoes not follow\n", encoding="utf-8")
    recipe = recipe_for("bert", tmp_path, tmp_path, path, calibration__samples=1, verification__samples=1)
    with pytest.raises(InputError, match="row 1: label '0'"):  # half of them names, half indices
        task.samples(recipe, {}, "evaluation", 1, folder=tmp_path)
    path.write_text("sentence1\tsentence2\tlabel\na\tb\t0\nc\td\t1\n", encoding="utf-8")
    rows = [row for split in ("calibration", "evaluation")
            for row in task.samples(recipe, {}, split, 1, folder=tmp_path)]  # fmt: skip
    assert sorted((row["text"], row["label"]) for row in rows) == [(("a", "b"), 0), (("c", "d"), 1)]


def test_generated_pairs_are_others_in_every_split(tmp_path: Path) -> None:
    recipe = recipe_for("bert", tmp_path, tmp_path, tmp_path).model_copy(update={"data": None})
    drawn = {split: task.samples(recipe, {}, split, 24, folder=tmp_path) for split in ("calibration", "evaluation")}
    assert all(len(rows) == 24 and {row["label"] for row in rows} == {0, 1} for rows in drawn.values())
    assert not {row["text"] for row in drawn["calibration"]} & {row["text"] for row in drawn["evaluation"]}
