"""The entries of a JSON, JSON-lines or CSV file, whatever its form; what they mean is for their reader to say.

[{…}, {…}]                                  a list                 {"data": [{…}, {…}]}     as SQuAD and Hugging Face
{…}⏎{…}                                     JSON lines             {"text": [a, b], "label": [0, 1]}     columns
{"text": {"0": a, "1": b}, …}               columns of pandas      {…}                      a single entry
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.tasks import _files

TEXTS = ("question", "context", "text", "sentence")  # columns by which a table of columns is recognized
WORDS = ("tokens", "words")  # the same, of lists: one list alone belongs to a single entry
LINES = (".jsonl", ".ndjson")  # suffixes
Entries = list[tuple[str, Any]]  # (where: 'line 3', the entry)


def is_json(path: Path, text: str) -> bool:
    """Returns whether a file is JSON by its name, or its first line is a JSON object."""
    return path.suffix.lower() in (".json", *LINES) or _is_object(_files.lines(text)[0][1])


def of_json(path: Path, text: str) -> Entries:
    """Returns the entries of a JSON or JSON-lines file. Raises InputError naming the file and the line."""
    try:
        return entries(_loads(text), _files.shown(path))
    except ValueError as error:
        rows = _files.lines(text)
        if path.suffix.lower() not in LINES and not (len(rows) > 1 and _is_object(rows[0][1])):
            raise InputError(f"data {_files.shown(path)} is not JSON: {error}.") from error
    return [(f"line {number}", _line(line, number, path)) for number, line in rows]


def entries(document: Any, source: str) -> Entries:
    """Returns the entries of a parsed document. Raises InputError for columns of unequal lengths."""
    if isinstance(document, dict) and isinstance(document.get("data"), list | dict):
        document = document["data"]
    if isinstance(document, dict) and _has_columns(document):
        document = _rows(document, source)
    rows = document if isinstance(document, list) else [document]
    return [(f"entry {number}", entry) for number, entry in enumerate(rows, 1)]


def cells(path: Path, text: str) -> list[tuple[str, list[str]]]:
    """Returns (where, the cells) of every row of a table: commas are between them in a .csv, tabs in any other."""
    if path.suffix.lower() == ".csv":
        return list(of_csv(path, text))
    return [(f"line {number}", line.split("\t")) for number, line in _files.lines(text)]


def of_csv(path: Path, text: str) -> Iterator[tuple[str, list[str]]]:
    """Yields (where, the cells) of every row of a CSV file; a quoted cell may hold commas and line ends.

    Raises InputError for invalid CSV, such as a quote that is never closed.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield f"line {reader.line_num}", row
    except csv.Error as error:
        raise InputError(
            f"data {_files.shown(path)} line {reader.line_num} is not CSV: {error}. JSON lines have no such limits."
        ) from error


def _has_columns(document: dict[str, Any]) -> bool:
    words = [document[name] for name in WORDS if isinstance(document.get(name), list)]
    return any(isinstance(document.get(name), list | dict) for name in TEXTS) or any(
        column and all(isinstance(entry, list) for entry in column) for column in words
    )


def _rows(columns: dict[str, Any], source: str) -> list[dict[str, Any]]:
    """Returns the rows of a table of columns; values other than lists and tables belong to no row."""
    cells = {name: _column(value, source) for name, value in columns.items() if isinstance(value, list | dict)}
    lengths = {name: len(column) for name, column in cells.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError(f"data {source}: its columns have unequal lengths ({listed}).")
    return [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]


def _column(value: Any, source: str) -> list[Any]:
    if isinstance(value, list):
        return value
    return list(value.values()) if all(key.isdecimal() for key in value) else _rows(value, source)


def _loads(text: str) -> Any:
    """Returns parsed JSON. Raises ValueError for invalid JSON, and for a repeated key, as either value may be meant."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} stands twice in one object")
    return value


def _line(line: str, number: int, path: Path) -> Any:
    try:
        return _loads(line)
    except ValueError as error:
        raise InputError(
            f"data {_files.shown(path)} line {number}: expected one JSON object per line: {error}."
        ) from error


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
