"""The questions of an extractive question-answering file, in any form that SQuAD has on the hub; flat and checked.

    {"data": [{"paragraphs": [{"context", "qas": [{"id", "question", "answers": [{"text", "answer_start"}]}]}]}]}
    {"id", "context", "question", "answers": {"text": [...], "answer_start": [...]}}     a row: see `_entries`

Questions without an answer (SQuAD v2, arXiv:1806.03822) are left out, or have the answer "". Only the texts of answers
are scored, so a wrong `answer_start` is accepted where the text stands in the context once; any other is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.tasks import _entries, _files
from pipeline.tasks._files import check_filled

Question = dict[str, Any]  # {id, question, context, answers: texts}


def read_file(path: Path, *, unanswerable: bool = False) -> list[Question]:
    """Returns the questions of a JSON or JSON-lines file; unanswerable: with those that have no answer."""
    text = _files.read_text(path)
    if path.suffix.lower() in (".csv", ".tsv"):
        raise InputError(f"data {_files.shown(path)} is a table; questions come as JSON or JSON lines in SQuAD format.")
    return questions(_entries.of_json(path, text), _files.shown(path), unanswerable=unanswerable)


def read_squad(document: Any, source: str) -> list[Question]:
    """Returns the questions of a parsed document."""
    return questions(_entries.entries(document, source), source)


def questions(entries: _entries.Entries, source: str, *, unanswerable: bool = False) -> list[Question]:
    """Returns the questions that have an answer, in order; unanswerable: all, with [""] as the answers of the others.

    Questions of a file without any ids are numbered. Raises InputError naming what is missing or of another type.
    """
    rows = [row for where, entry in entries for row in _rows(entry, where, source)]
    numbered = not any("id" in row for _, row in rows)
    kept: list[Question] = []
    misplaced = 0
    for number, (where, row) in enumerate(rows):
        name = str(number) if numbered else _id(row, f"{source} {where}")
        what = f"question {name!r}"
        answers = _answers(row, source, what)
        if not answers and not unanswerable:
            continue
        question, context = (check_filled(row[key], f"{source}: {key} of {what}") for key in ("question", "context"))
        misplaced += sum(not _stands(context, *answer, f"{source}: {what}") for answer in answers)
        texts = [text for text, _ in answers] or [""]
        kept.append({"id": name, "question": question, "context": context, "answers": texts})
    if dropped := len(rows) - len(kept):
        _files.say_once(
            f"{source}: {dropped} of {len(rows)} questions have no answer (SQuAD v2) and are left out; "
            "question_answering.no_answer_threshold keeps them"
        )
    if misplaced:
        _files.say_once(
            f"{source}: {misplaced} answers stand elsewhere than answer_start says, but once in their context; accepted"
        )
    if not kept:
        example = (
            f" with an answer, the first of {len(rows)} without one is {rows[0][1].get('id', 0)!r}" if rows else ""
        )
        raise InputError(f"{source} has no questions{example}.")
    if twice := [name for name, count in Counter(q["id"] for q in kept).items() if count > 1]:
        raise InputError(f"{source}: {len(twice)} ids name several questions, the first is {twice[0]!r}.")
    return kept


def _rows(entry: Any, where: str, source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (where, {question, context, answers, …}) for every question of an article, paragraph or row."""
    if not isinstance(entry, dict):
        raise _other_form(source, where, type(entry).__name__)
    kind = next((key for key in ("paragraphs", "qas") if key in entry), None)
    if kind is None:
        needed = ("question", "context") if entry.get("is_impossible") else ("question", "context", "answers")
        if missing := [key for key in needed if key not in entry]:
            raise _other_form(source, where, f"keys {', '.join(entry) or 'none'}; no {', '.join(missing)}")
        yield where, entry
        return
    if not isinstance(entry[kind], list):
        raise _other_form(source, where, f"{kind} of type {type(entry[kind]).__name__}")
    outer = {"context": entry["context"]} if "context" in entry else {}
    for number, inner in enumerate(entry[kind], 1):
        inner = {**outer, **inner} if isinstance(inner, dict) else inner
        yield from _rows(inner, f"{where}, {kind} {number}", source)


def _other_form(source: str, where: str, held: str) -> InputError:
    return InputError(
        f"{source} is not in SQuAD v1.1 format, nor in its flat form: {where} has {held}. Expected "
        '{"data": [{"paragraphs": [{"context", "qas": [{"id", "question", "answers"}]}]}]}, or rows of id, question, '
        "context and answers."
    )


def _id(row: dict[str, Any], what: str) -> str:
    name = row.get("id")
    if isinstance(name, bool) or not isinstance(name, int | str):
        raise InputError(f"{what}: id is {type(name).__name__}, not a string.")
    return str(name)


def _answers(row: dict[str, Any], source: str, what: str) -> list[tuple[str, Any]]:
    """Returns (text, answer_start or None) for each of a question's answers, an empty list where it has none."""
    impossible, given = row.get("is_impossible"), row.get("answers")
    if impossible not in (None, False, True):
        raise InputError(f"{source}: is_impossible of {what} is {impossible!r}, not true or false.")
    if impossible:
        return []
    if isinstance(given, dict):  # of lists, as Hugging Face stores them
        texts, starts = (_as_list(given.get(key)) for key in ("text", "answer_start"))
        if starts and len(starts) != len(texts):
            raise InputError(f"{source}: answers of {what} are {len(texts)} texts and {len(starts)} answer_start.")
        answers = list(zip(texts, starts or [None] * len(texts), strict=True))
    elif isinstance(given, list):
        answers = [(a.get("text"), a.get("answer_start")) if isinstance(a, dict) else (a, None) for a in given]
    else:
        raise InputError(f"{source}: answers of {what} is {type(given).__name__}, not a list.")
    if all(text == "" for text, _ in answers):
        return []
    return [(check_filled(text, f"{source}: answers of {what}"), start) for text, start in answers]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _stands(context: str, text: str, start: Any, what: str) -> bool:
    """Returns whether an answer stands where answer_start says, True without one.

    Raises InputError for an answer that the context lacks, or holds several times and not there.
    """
    if start is not None and (isinstance(start, bool) or not isinstance(start, int)):
        raise InputError(f"{what}: answer_start is {start!r} ({type(start).__name__}), not a whole number.")
    count = context.count(text)
    if not count:
        raise InputError(
            f"{what}: the answer {text!r} is nowhere in its context. Correct it, or leave the question out."
        )
    if start is None or (start >= 0 and context.startswith(text, start)):
        return True
    if count > 1:
        raise InputError(
            f"{what}: the answer {text!r} is not at its answer_start {start} (there is "
            f"{context[max(start, 0) :][: len(text)]!r}) and stands in the context {count} times. Correct it, or "
            "leave the question out."
        )
    return False
