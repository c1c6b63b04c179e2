"""A checkpoint's classes, and the labels of data held against them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.checkpoint.reading import read_config
from pipeline.errors import InputError, near_names


def class_names(config: dict[str, Any]) -> list[str]:
    """Returns the checkpoint's label names in index order."""
    names = config.get("id2label") or {i: f"LABEL_{i}" for i in range(config.get("num_labels", 2))}
    return [str(names[key]) for key in sorted(names, key=int)]


def names_in(folder: Path) -> list[str]:
    """Returns the label names of a folder's config.json in index order."""
    return class_names(read_config(folder))


def require_one_of_several(config: dict[str, Any], said: str) -> None:
    """Raises InputError, which ends with what is `said` of the task, for a head whose answer is not one label of
    several, as accuracy then says nothing.
    """
    names, kind = class_names(config), config.get("problem_type")
    if len(names) < 2 or kind not in (None, "single_label_classification"):
        asked = f"problem_type {kind!r}" if kind else f"{len(names)} output"
        raise InputError(f"the checkpoint has {asked}; {said}.")


def indices(labels: Sequence[Any], names: Sequence[str], source: str, where: Callable[[int], str]) -> list[int]:
    """Returns the class indices of a file's labels, all names or all indices; a number in JSON is an index.

    where: the place of a label by its number, for messages. Raises InputError for a label that is neither, and for
    labels that could be either and differ in meaning.
    """
    by_name = {name: index for index, name in enumerate(names)}
    as_name = [by_name.get(label) if isinstance(label, str) else None for label in labels]
    as_index = [_index(label, len(names)) for label in labels]
    whole = [found for found in (as_name, as_index) if None not in found]
    if len(whole) == 2 and as_name != as_index:
        raise InputError(
            f"{source}: the labels ({', '.join(sorted(set(labels))[:4])}) are names of the checkpoint's classes and "
            'also indices of others. Use JSONL, where 1 is an index and "1" a name.'
        )
    if whole:
        return [index for index in whole[0] if index is not None]
    neither = [i for i, pair in enumerate(zip(as_name, as_index, strict=True)) if pair == (None, None)]
    number = (neither or [as_name.index(None)])[0]
    raise InputError(
        f"{source} {where(number)}: label {labels[number]!r} is not one of the checkpoint's."
        f"{near_names(str(labels[number]), names)}"
    )


def row(number: int) -> str:
    """Returns the place of a label in a file with one for each row."""
    return f"row {number + 1}"


def _index(label: Any, classes: int) -> int | None:
    """Returns a label as an index, None where it is none."""
    if isinstance(label, bool) or not isinstance(label, int | str) or not re.fullmatch("[0-9]{1,9}", str(label)):
        return None
    return int(label) if int(label) < classes else None
