"""Rows {text, label}, the text alone or a pair: what is the same wherever texts are judged by labels of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.tasks import Arrays, _tables, _text

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

Sample = dict[str, Any]


def rows(table: Sequence[_tables.Row], labels: Iterable[Any]) -> list[Sample]:
    """Returns a row for every row of a table, with the label that its task reads there."""
    return [{"text": _tables.text_of(row), "label": label} for row, label in zip(table, labels, strict=True)]


def encode(folder: Path, recipe: Recipe, samples: Sequence[Sample]) -> tuple[Arrays, Arrays]:
    """Returns inputs [N, S], and `text` [N] as a report shows it."""
    texts = [sample["text"] for sample in samples]
    inputs = _text.encode(_text.tokenizer(folder, recipe.shapes.sequence_length), texts)
    return inputs, {"text": np.array([_text.shown(text) for text in texts])}


def encode_classes(
    folder: Path, recipe: Recipe, samples: Sequence[Sample], names: Sequence[str]
) -> tuple[Arrays, Arrays]:
    """Returns inputs [N, S], and labels: `label` int64 [N] or [N, K], `text` [N] and `class_names` [K]."""
    inputs, shown = encode(folder, recipe, samples)
    label = np.array([sample["label"] for sample in samples], dtype=np.int64)
    return inputs, {"label": label, **shown, "class_names": np.array(names)}


def own_encoding(folder: Path, recipe: Recipe, samples: Sequence[Sample]) -> Arrays:
    """Returns the inputs that the checkpoint's own tokenizer makes."""
    return _text.own_encoding(folder, recipe.shapes.sequence_length, [sample["text"] for sample in samples])
