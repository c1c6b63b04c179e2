"""Data sets of a few dozen samples for the heads of text models, in the forms that each reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from helpers.tiny import COLOURS, PLACES, THINGS

TAGS = ("O", "B-THING", "I-THING", "B-PLACE")


def sentence(rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Returns (words, tags): a coloured thing, one entity of two words, in a place, another of one."""
    words = ["the", rng.choice(COLOURS), rng.choice(THINGS), "is", "in", "the", rng.choice(PLACES), "."]
    return [str(word) for word in words], ["O", "B-THING", "I-THING", "O", "O", "O", "B-PLACE", "O"]


def tagged(path: Path, count: int = 24) -> Path:
    """Returns `path` with tagged sentences of different lengths, as CoNLL columns or JSON lines by its name."""
    rng, rows = np.random.default_rng(3), []
    for number in range(count):
        parts = [sentence(rng) for _ in range(1 + number % 3)]
        rows.append([[x for part in parts for x in part[k]] for k in (0, 1)])
    if path.suffix == ".jsonl":
        text = "\n".join(json.dumps({"tokens": words, "ner_tags": tags}) for words, tags in rows)
    else:
        columns = ["\n".join(f"{w} X {t}" for w, t in zip(*row, strict=True)) for row in rows]
        text = "-DOCSTART- -X- O\n\n" + "\n\n".join(columns)
    path.write_text(text + "\n", encoding="utf-8")
    return path
