"""Sentences whose words have labels: CoNLL columns, or JSON lines of tokens and tags.

EU NNP B-NP B-ORG ⏎ rejects VBZ B-VP O ⏎ ⏎ …         a word a line, its label last, sentences end at blank lines
{"tokens": ["EU", "rejects"], "ner_tags": ["B-ORG", "O"]}        and any other form that `_entries` knows
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.tasks import _entries, _files
from pipeline.tasks._files import check_text

WORDS, LABELS = ("tokens", "words"), ("ner_tags", "labels", "tags")
DOCUMENT = "-DOCSTART-"  # the only word of CoNLL-2003's lines between documents
EXPECTED = '{"tokens": ["…", …], "ner_tags": ["…", …]}'


@dataclass(frozen=True)
class Sentence:
    """Words with a label each; places: where each stands in the file, 'line 7'."""

    words: tuple[str, ...]
    labels: tuple[Any, ...]
    places: tuple[str, ...]


def read_file(path: Path) -> list[Sentence]:
    """Returns the sentences of a file. Raises InputError naming the file, the line and what is wrong there."""
    text, name = _files.read_text(path), _files.shown(path)
    if _entries.is_json(path, text):
        sentences = [_of_object(entry, where, name) for where, entry in _entries.of_json(path, text)]
    else:
        sentences = _of_columns(text, name)
    if not sentences:
        raise InputError(f"data {name} has no sentences.")
    return sentences


def _of_object(entry: Any, where: str, name: str) -> Sentence:
    """Returns the sentence of a JSON object."""
    held = entry if isinstance(entry, dict) else {}
    keys = [next((key for key in known if key in held), None) for known in (WORDS, LABELS)]
    if None in keys:
        found = f"keys {', '.join(held) or 'none'}" if isinstance(entry, dict) else type(entry).__name__
        raise InputError(f"{name} {where}: expected {EXPECTED}, found {found}.")
    words, labels = (_list(held[key], f"{name} {where}: {key}") for key in keys if key)
    if len(words) != len(labels) or not words:
        raise InputError(f"{name} {where} has {len(words)} {keys[0]} and {len(labels)} {keys[1]}; each has one label.")
    for number, word in enumerate(words, 1):
        check_text(word, f"{name} {where}: {keys[0]} {number}")
    return Sentence(tuple(words), tuple(labels), tuple(f"{where}, {keys[1]} {n}" for n in range(1, len(words) + 1)))


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{what} is {type(value).__name__}, not a list.")
    return value


def _of_columns(text: str, name: str) -> list[Sentence]:
    """Returns the sentences of CoNLL columns, which spaces or tabs separate."""
    rows: list[list[tuple[str, str, str]]] = [[]]  # of each sentence (word, label, place)
    columns: int | None = None
    for number, line in enumerate(re.split(r"\r\n?|\n", text), 1):
        cells = re.split("\t" if "\t" in line.strip(" ") else " +", line.strip(" "))  # a word may hold other spaces
        if not line.strip() or cells[0] == DOCUMENT:
            rows.append([])
            continue
        if columns is None and not _is_comment(line):
            columns = len(cells)
        if len(cells) != columns:
            if _is_comment(line):
                continue
            raise _other_form(name, number, len(cells), columns)
        if len(cells) < 2 or not cells[0]:
            raise _other_form(name, number, len(cells), None)
        rows[-1].append((cells[0], cells[-1].strip(), f"line {number}"))
    return [_sentence(words) for words in rows if words]


def _is_comment(line: str) -> bool:
    return re.match(r"#\s", line) is not None


def _other_form(name: str, number: int, found: int, expected: int | None) -> InputError:
    wanted = f"{expected}, as above" if expected else "at least 2: a word, and its label last"
    return InputError(
        f"data {name} line {number} has {found} columns, expected {wanted}. Words and labels come in CoNLL columns, "
        f"with a blank line between sentences, or as JSON lines: {EXPECTED}."
    )


def _sentence(rows: Sequence[tuple[str, str, str]]) -> Sentence:
    words, labels, places = zip(*rows, strict=True)
    return Sentence(words, labels, places)
