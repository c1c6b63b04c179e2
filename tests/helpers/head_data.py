"""Data sets of a few dozen samples for the heads of text models, in the forms that each reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from helpers import tiny
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


def lines(path: Path, count: int = 24) -> Path:
    """Returns `path` with a different text on every line."""
    rng = np.random.default_rng(4)
    texts = [" ".join(sentence(rng)[0] + [str(number)]) for number in range(count)]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def pairs(path: Path, label: Callable[[int], Any], count: int = 24) -> Path:
    """Returns `path`, JSON lines of premises and hypotheses; label: of a row by its number."""
    rng, rows = np.random.default_rng(5), []
    for number in range(count):
        premise, hypothesis = (" ".join(sentence(rng)[0]) for _ in range(2))
        rows.append({"premise": f"{premise} {number}", "hypothesis": hypothesis, "label": label(number)})
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return path


def documents(path: Path, count: int = 12) -> Path:
    """Returns `path` with documents of four sentences, a sentence a line and a blank line between documents."""
    rng = np.random.default_rng(6)
    texts = ["\n".join(" ".join(sentence(rng)[0]) + f" {number} {i}" for i in range(4)) for number in range(count)]
    path.write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    return path


def choices(path: Path, count: int = 24, number: int = 4) -> Path:
    """Returns `path`, JSON lines of contexts with endings as SWAG has them."""
    rng, rows = np.random.default_rng(7), []
    for i in range(count):
        endings = {f"ending{k}": " ".join(sentence(rng)[0][: 2 + k]) for k in range(number)}
        context = " ".join(sentence(rng)[0])
        rows.append({"sent1": f"{context} {i}", "sent2": "it", **endings, "label": i * 7 % number})
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return path


def squad_v2(path: Path, count: int = 24) -> Path:
    """Returns `path`, questions every other of which has no answer."""
    content = json.loads(tiny.squad(path, count).read_text(encoding="utf-8"))
    for number, paragraph in enumerate(content["data"][0]["paragraphs"]):
        if number % 2:
            paragraph["qas"][0] |= {"answers": [], "is_impossible": True}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
