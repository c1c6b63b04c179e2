"""Labelled texts, or pairs of texts, in CSV, TSV, JSON or JSON lines; the columns of data sets on the hub are known."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.tasks import _entries, _files
from pipeline.tasks._files import check_filled, check_text

TEXTS, LABEL = ("text", "sentence"), "label"
# the columns of a pair, in the order that a model sees them; a table that has both is one of pairs
PAIRS = (
    ("text", "text_pair"), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"),
    ("question", "sentence"), ("sentence_a", "sentence_b"), ("query", "passage"), ("query", "document"),
    ("text1", "text2"),
)  # fmt: skip

Row = dict[str, Any]


def read_table(path: Path, labels: Sequence[str] = (LABEL,), classes: Sequence[str] = ()) -> list[Row]:
    """Returns the rows {text, label} of a file, {text, pair, label} where its texts are pairs; all are or none is.

    labels: the names that the label's column may have. classes: columns that together are the label, a list, where
    there is none of these. A row without a label has None. Raises InputError naming the file and the line.
    """
    content, name = _files.read_text(path), _files.shown(path)
    found: Iterator[tuple[str, Any]]
    if _entries.is_json(path, content):
        found = iter(_entries.of_json(path, content))
    else:
        csv = path.suffix.lower() == ".csv"
        found = _of_cells(_entries.cells(path, content), name, "commas" if csv else "tabs", labels, header=csv)
    rows = [_row(entry, f"{name} {where}", labels, classes) for where, entry in found]
    if not rows:
        raise InputError(f"data {name} has no rows.")
    if len({"pair" in row for row in rows}) > 1:
        alone = next(number for number, row in enumerate(rows, 1) if "pair" not in row)
        raise InputError(f"data {name}: row {alone} has one text, others have a pair.")
    return rows


def entries(path: Path) -> _entries.Entries:
    """Returns (where, {column: value}) of every row of JSON, JSON lines, CSV, or TSV with names in its first line."""
    content, name = _files.read_text(path), _files.shown(path)
    if _entries.is_json(path, content):
        return _entries.of_json(path, content)
    rows = _entries.cells(path, content)
    names = [cell.strip() for cell in rows[0][1]] if rows else []
    for where, cells in rows[1:]:
        if len(cells) != len(names):
            raise InputError(
                f"data {name} {where} has {len(cells)} columns, expected {len(names)}: {', '.join(names)}."
            )
    return [(where, dict(zip(names, cells, strict=True))) for where, cells in rows[1:]]


def read_texts(path: Path) -> list[str]:
    """Returns the texts of a file: its lines that are not blank, or those of a table or JSON."""
    content = _files.read_text(path)
    if _entries.is_json(path, content) or path.suffix.lower() in (".csv", ".tsv"):
        return texts_of(read_table(path))
    return [check_text(line, f"{_files.shown(path)} line {number}") for number, line in _files.lines(content)]


def text_of(row: Row) -> str | tuple[str, str]:
    """Returns a row's text, or its pair of texts."""
    return (row["text"], row["pair"]) if "pair" in row else str(row["text"])


def texts_of(rows: Sequence[Row]) -> list[str]:
    """Returns every text of a table, both of a pair."""
    return [row[key] for row in rows for key in ("text", "pair") if key in row]


def _columns(names: Mapping[str, Any] | Sequence[str]) -> tuple[str, ...]:
    """Returns the columns of texts among these names: two of a pair, one, or none."""
    known = {name.lower(): name for name in names}
    pair = next((pair for pair in PAIRS if set(pair) <= set(known)), None)
    chosen = pair or tuple(name for name in TEXTS if name in known)[:1]
    return tuple(known[name] for name in chosen)


def _row(entry: Any, where: str, labels: Sequence[str], classes: Sequence[str]) -> Row:
    columns = _columns(entry) if isinstance(entry, dict) else ()
    if not columns:
        held = f"keys {', '.join(entry) or 'none'}" if isinstance(entry, dict) else type(entry).__name__
        raise InputError(f'{where}: expected {{"text": …, "{labels[0]}": …}}, found {held}.')
    row = {
        key: check_filled(entry[name], f"{where}: {name}") for key, name in zip(("text", "pair"), columns, strict=False)
    }
    key = next((key for key in labels if key in entry), None)
    if key is None and classes and set(classes) <= set(entry):
        return {**row, "label": [entry[name] for name in classes]}
    return {**row, "label": None if key is None else entry[key]}


def _of_cells(
    rows: list[tuple[str, list[str]]], name: str, between: str, labels: Sequence[str], *, header: bool
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields (where, {column: cell}) of a table's rows, by the names in its first line; those known in lower case.

    header: whether it must have such a line; without one the columns are text and label, in this order.
    """
    if not rows:
        return
    first = [cell.strip() for cell in rows[0][1]]
    known = {*TEXTS, *labels, *(column for pair in PAIRS for column in pair)}
    names = [cell.lower() if cell.lower() in known else cell for cell in first]
    other = {cell.lower() for cell in re.split("[,;|\t]", first[0])} if len(first) == 1 else set()  # other separators
    if header or {*TEXTS, *labels} & set(names) or _columns(names)[1:] or (set(labels) & other and other & set(TEXTS)):
        texts = _columns(names)
        if not texts or any(names.count(column) != 1 for column in texts) or any(names.count(k) > 1 for k in labels):
            raise InputError(
                f"data {name}: its first line must name one column text (or sentence), and label; it names "
                f"{' | '.join(rows[0][1])}, with {between} between them."
            )
        rows = rows[1:]
    else:
        names, texts = [TEXTS[0], LABEL], TEXTS[:1]
    for where, cells in rows:
        if not max(names.index(column) for column in texts) < len(cells) <= len(names):
            raise InputError(
                f"data {name} {where} has {len(cells)} columns with {between} between them, expected "
                f"{len(names)}: {', '.join(names)}. Texts that hold {between} need JSON lines or quoted CSV."
            )
        yield where, dict(zip(names, cells, strict=False))
