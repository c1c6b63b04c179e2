"""Questions with several choices, as SWAG, RACE and their likes have them, in JSON, JSON lines or CSV.

{"sent1": …, "sent2": …, "ending0": …, … "ending3": …, "label": 0}       SWAG (Zellers et al. 2018)
{"context": …, "question": …, "choices": ["…", …], "label": 0}           or article, options, answer "A": RACE
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.tasks import _files, _tables
from pipeline.tasks._files import check_filled, check_text

FIRST = ("context", "article", "sent1", "startphrase", "text", "prompt")
START = ("question", "sent2")  # of every second text, before the choice
CHOICES, LABELS = ("choices", "options", "endings"), ("label", "answer")
EXPECTED = (
    '{"context": …, "question": …, "choices": ["…", …], "label": 0}, or sent1, sent2, ending0, ending1, … as SWAG'
)


@dataclass(frozen=True)
class Question:
    """pairs: what the model sees of every choice; choices: as they are given; label: of the right one, -1: unknown."""

    pairs: tuple[tuple[str, str], ...]
    choices: tuple[str, ...]
    label: int


def read_file(path: Path) -> list[Question]:
    """Returns the questions of a file; all have as many choices. Raises InputError naming the file and the line."""
    name = _files.shown(path)
    found = [(where, question(entry, f"{name} {where}", labelled=True)) for where, entry in _tables.entries(path)]
    if not found:
        raise InputError(f"data {name} has no rows.")
    number = len(found[0][1].choices)
    for where, one in found:
        if len(one.choices) != number:
            raise InputError(
                f"{name} {where} has {len(one.choices)} choices, {found[0][0]} has {number}; all need the same number."
            )
    return [one for _, one in found]


def question(entry: Any, where: str, *, labelled: bool) -> Question:
    """Returns the question of an entry."""
    held: Mapping[str, Any] = entry if isinstance(entry, dict) else {}
    first, start = (next((held[key] for key in keys if held.get(key) is not None), None) for keys in (FIRST, START))
    choices = _choices(held, where)
    if choices is None or (first is None and start is None):
        found = f"keys {', '.join(held) or 'none'}" if isinstance(entry, dict) else type(entry).__name__
        raise InputError(f"{where}: expected {EXPECTED}; found {found}.")
    context = check_filled(start if first is None else first, f"{where}: its context or question")
    before = "" if first is None or not start else check_text(start, f"{where}: its question") + " "
    label = _label(held, len(choices), where) if labelled else -1
    return Question(tuple((context, before + choice) for choice in choices), choices, label)


def _choices(held: Mapping[str, Any], where: str) -> tuple[str, ...] | None:
    given = next((held[key] for key in CHOICES if key in held), None)
    if given is None:
        given = [held[f"ending{i}"] for i in takewhile(lambda i: f"ending{i}" in held, count())] or None
    if given is None:
        return None
    if not isinstance(given, list | tuple) or len(given) < 2:
        raise InputError(f"{where}: its choices must be a list of two or more, found {given!r:.80}.")
    return tuple(check_filled(choice, f"{where}: choice {i}") for i, choice in enumerate(given))


def _label(held: Mapping[str, Any], number: int, where: str) -> int:
    """Returns the number of the right choice, which may be written as a digit or as a letter."""
    label = next((held[key] for key in LABELS if key in held), None)
    found = -1
    if not isinstance(label, bool) and re.fullmatch("[0-9]{1,3}|[A-Z]", str(label)):
        found = ord(str(label)) - ord("A") if str(label).isalpha() else int(str(label))
    if not 0 <= found < number:
        raise InputError(
            f"{where}: label {label!r} is none of its {number} choices, 0 to {number - 1} or A to "
            f"{chr(ord('A') + number - 1)}."
        )
    return found
