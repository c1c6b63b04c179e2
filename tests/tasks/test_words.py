"""Sentences with labelled words, in every form that they come in, and what is no such form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers import head_data
from pipeline.errors import InputError
from pipeline.tasks import _words

FORMS = {
    "columns.conll": "-DOCSTART- -X- O\n\nEU NNP B-ORG\nrejects VBZ O\n\n\nPeter NNP B-PER\n",
    "tabs.txt": "EU\tB-ORG\r\nrejects\tO\r\n\r\nPeter\tB-PER\r\n",
    "comments.conll": "# id 7\nEU _ _ B-ORG\nrejects _ _ O\n\n# id 8\nPeter _ _ B-PER\n",
    "lines.jsonl": '{"tokens": ["EU", "rejects"], "ner_tags": ["B-ORG", "O"]}\n'
    '{"words": ["Peter"], "tags": ["B-PER"]}\n',
    "list.json": '[{"tokens": ["EU", "rejects"], "labels": ["B-ORG", "O"]},'
    ' {"tokens": ["Peter"], "labels": ["B-PER"]}]',
    "table.json": '{"tokens": [["EU", "rejects"], ["Peter"]], "ner_tags": [["B-ORG", "O"], ["B-PER"]]}',
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_sentences(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FORMS[name], encoding="utf-8", newline="")
    found = [(s.words, s.labels) for s in _words.read_file(tmp_path / name)]
    assert found == [(("EU", "rejects"), ("B-ORG", "O")), (("Peter",), ("B-PER",))]


def test_a_single_entry_is_no_table_of_columns(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text('{"tokens": ["EU", "rejects"], "ner_tags": [1, 0]}', encoding="utf-8")
    (sentence,) = _words.read_file(tmp_path / "one.json")
    assert (sentence.words, sentence.labels) == (("EU", "rejects"), (1, 0))


def test_places_are_the_lines_of_the_words(tmp_path: Path) -> None:
    path = tmp_path / "columns.conll"
    path.write_text(FORMS[path.name], encoding="utf-8")
    assert [s.places for s in _words.read_file(path)] == [("line 3", "line 4"), ("line 7",)]
    path = tmp_path / "lines.jsonl"
    path.write_text(FORMS[path.name], encoding="utf-8")
    assert _words.read_file(path)[0].places == ("line 1, ner_tags 1", "line 1, ner_tags 2")


def test_a_word_may_hold_spaces_of_other_kinds(tmp_path: Path) -> None:
    """Splitting at every space of Unicode would cut this number in two and take its end for a label."""
    (tmp_path / "a.conll").write_text("10\u00a0000 O\n\u2028 O\n", encoding="utf-8")
    (sentence,) = _words.read_file(tmp_path / "a.conll")
    assert sentence.words == ("10\u00a0000", "\u2028") and sentence.labels == ("O", "O")


def test_both_kinds_of_file_hold_the_same(tmp_path: Path) -> None:
    columns, lines = (_words.read_file(head_data.tagged(tmp_path / name)) for name in ("a.conll", "a.jsonl"))
    assert [(s.words, s.labels) for s in columns] == [(s.words, s.labels) for s in lines]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.conll", "EU B-ORG\nrejects\n", r"a\.conll line 2 has 1 columns, expected 2, as above"),
        ("a.conll", "EU NNP B-ORG\nrejects O\n", r"a\.conll line 2 has 2 columns, expected 3, as above"),
        ("a.conll", "EU\nrejects\n", r"a\.conll line 1 has 1 columns, expected at least 2"),
        ("a.conll", "EU\tO\n\tO\n", r"a\.conll line 2 has 2 columns, expected at least 2: a word"),
        ("a.conll", "-DOCSTART-\n\n", r"a\.conll has no sentences"),
        ("a.jsonl", '{"tokens": ["a"], "ner_tags": ["O"]}\n[1]\n', r"a\.jsonl line 2: expected .*, found list"),
        ("a.jsonl", '{"tokens": ["a"]}\n', r"a\.jsonl entry 1: expected .*, found keys tokens"),
        ("a.jsonl", '{"tokens": "a b", "ner_tags": ["O"]}\n', r"a\.jsonl entry 1: tokens is str, not a list"),
        ("a.jsonl", '{"tokens": [], "ner_tags": []}\n', r"has 0 tokens and 0 ner_tags; each has one label"),
        ("a.jsonl", '{"tokens": ["a", 7], "ner_tags": [0, 0]}\n', r"entry 1: tokens 2 is int, not a string"),
        ("a.jsonl", '{"tokens": ["\\ud83d"], "ner_tags": [0]}\n', r"tokens 1 is damaged: character 0 is U\+D83D"),
    ],
)
def test_what_is_no_sentence_is_named_with_its_line(name: str, content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        _words.read_file(tmp_path / name)


def test_json_lines_and_columns_of_a_data_set_agree(tmp_path: Path) -> None:
    rows = [{"tokens": ["a", "b"], "ner_tags": [0, 1]}, {"tokens": ["c"], "ner_tags": [2]}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    table = {key: [row[key] for row in rows] for key in rows[0]}
    (tmp_path / "b.json").write_text(json.dumps(table), encoding="utf-8")
    one, other = (_words.read_file(tmp_path / name) for name in ("a.jsonl", "b.json"))
    assert [(s.words, s.labels) for s in one] == [(s.words, s.labels) for s in other]
