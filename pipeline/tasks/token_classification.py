"""Token classification: one label per word, as of entities. A word's label is read at its first sub-word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import InputError
from pipeline.tasks import Arrays, _counts, _defaults, _entities, _files, _labels, _text, _words, take
from pipeline.tasks._heads import Head

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

HEADS = (Head("ForTokenClassification", ("logits",)),)
METRIC = "f1"
AGREEMENT = 0.98  # labels of words
SAMPLES = {"calibration": 64, "selection": 64, "evaluation": 500}

IGNORED = -100  # the label of tokens that start no word, as in PyTorch's cross entropy
UNKNOWN = -1  # of words that nobody labelled

further = _defaults.further
metric = _counts.micro_f1
reference_labels = _defaults.reference_labels
settings = _defaults.settings


def samples(recipe: Recipe, config: dict[str, Any], split: str, count: int, *, folder: Path) -> list[dict[str, Any]]:
    """Returns {words, labels} rows, labels as class indices. Raises InputError for one that the checkpoint lacks."""
    if recipe.data is None:
        raise InputError(
            "a token-classification checkpoint needs labelled words: give DATA=file.conll (columns, a word a line, its "
            f"label last) or DATA=file.jsonl ({_words.EXPECTED})."
        )
    sentences = _words.read_file(_files.located(recipe.data))
    flat, places = ([x for s in sentences for x in getattr(s, name)] for name in ("labels", "places"))
    indices = iter(_labels.indices(flat, _labels.class_names(config), recipe.data, places.__getitem__))
    rows = [{"words": list(s.words), "labels": [next(indices) for _ in s.labels]} for s in sentences]
    return take(rows, split, recipe, SAMPLES)


def encode(folder: Path, recipe: Recipe, samples: list[dict[str, Any]]) -> tuple[Arrays, Arrays]:
    """Returns inputs [N, S] and labels; `label` [N, S] is IGNORED where no word starts."""
    tokenizer = _text.tokenizer(folder, recipe.shapes.sequence_length)
    inputs, starts = _text.encode_words(tokenizer, [s["words"] for s in samples])
    label = np.full(starts.shape, IGNORED)
    for row, start, sample in zip(label, starts, samples, strict=True):
        row[start >= 0] = np.array(sample["labels"])[start[start >= 0]]
    return inputs, {
        "label": label,
        "start": starts,
        "words": np.array([json.dumps(s["words"]) for s in samples]),
        "class_names": np.array(_labels.names_in(folder)),
    }


def own_encoding(folder: Path, recipe: Recipe, samples: list[dict[str, Any]]) -> Arrays:
    """Returns the inputs that the checkpoint's own tokenizer makes."""
    return _text.own_encoding(folder, recipe.shapes.sequence_length, [s["words"] for s in samples])


def judged(outputs: Arrays, labels: Arrays) -> Arrays:
    """Returns the logits of first sub-words [words, K], the only ones that labels are read at."""
    return {name: value[labels["label"] != IGNORED] for name, value in outputs.items()}


def predict(outputs: Arrays, labels: Arrays) -> list[list[str]]:
    """Returns the label names of every text's words."""
    return _named(outputs["logits"].argmax(-1), labels)


def _named(classes: np.ndarray, labels: Arrays) -> list[list[str]]:
    rows = zip(labels["class_names"][classes], labels["label"], strict=True)
    return [[str(name) for name in names[label != IGNORED]] for names, label in rows]


def _truth(labels: Arrays) -> list[list[str]]:
    return _named(np.maximum(labels["label"], 0), labels)


def score(predictions: list[list[str]], labels: Arrays) -> float:
    """Returns the entity F1 over all texts and types, seqeval's micro average."""
    return float(metric(tally(predictions, labels).mean(0)))


def tally(predictions: list[list[str]], labels: Arrays) -> np.ndarray:
    """Returns of every text and type the entities that are right, found and expected [N, 3·T]."""
    counted = _entities.counts(predictions, _truth(labels), labels["class_names"].tolist())
    return counted.reshape(len(counted), counted[0].size)


def chance(predictions: list[list[str]], labels: Arrays, own: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the tallies of one label for every word, and of the model's own labels of another text."""
    flat = labels["label"][labels["label"] != IGNORED]
    counted = np.bincount(flat, minlength=len(labels["class_names"]))
    names = [str(name) for name in labels["class_names"]]
    best = max(names, key=lambda name: (name != _entities.OUTSIDE, counted[names.index(name)]))
    constant = [[best] * len(row) for row in predictions]
    others = [_fitted(other, len(row)) for row, other in zip(predictions, _turned(predictions), strict=True)]
    return {
        f"{best!r} for every word": tally(constant, labels),
        "its own labels of another text": tally(others, labels),
    }


def _turned(rows: list[list[str]]) -> list[list[str]]:
    return [*rows[1:], *rows[:1]]


def _fitted(row: list[str], length: int) -> list[str]:
    return [*row, *[_entities.OUTSIDE] * length][:length] if row else [_entities.OUTSIDE] * length


def unjudgeable(labels: Arrays) -> str | None:
    """Returns that all words have the same label, None where they have several."""
    found = np.unique(labels["label"][labels["label"] != IGNORED])
    if not len(found):
        return "no text has a word"
    return None if len(found) > 1 else f"every word is labelled {str(labels['class_names'][found[0]])!r}"


def unseen(labels: Arrays) -> list[str]:
    """Returns the classes that no word has."""
    return [str(name) for i, name in enumerate(labels["class_names"]) if not (labels["label"] == i).any()]


def per_class(tally: np.ndarray, labels: Arrays) -> dict[str, float]:
    """Returns {type of entity: F1} of those that occur."""
    return _counts.per_kind(tally, _entities.types(labels["class_names"].tolist()))


def agreement(a: list[list[str]], b: list[list[str]]) -> float:
    """Returns the share of words with the same label."""
    pairs = [(x, y) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True)]
    return sum(x == y for x, y in pairs) / max(len(pairs), 1)


def examples(
    inputs: Arrays, labels: Arrays, reference: list[list[str]], engine: list[list[str]], limit: int
) -> list[dict[str, Any]]:
    """Returns texts with the entities that they have and that were found in them, those that differ first."""
    names = labels["class_names"].tolist()
    rows = []
    for text, starts, *named in zip(labels["words"], labels["start"], _truth(labels), reference, engine, strict=True):
        words = json.loads(str(text))
        seen = [words[i] for i in starts[starts >= 0]]
        shown = [_shown(seen, found, names) for found in named]
        rows.append({"text": " ".join(words), **dict(zip(("label", "float", "engine"), shown, strict=True))})
    return _defaults.differing_first(rows, limit)


def _shown(words: list[str], found: list[str], names: list[str]) -> str:
    return "; ".join(f"{' '.join(words[a : b + 1])}: {kind}" for kind, a, b in _entities.entities(found, names)) or "–"


def preprocess(folder: Path, raw: Any, recipe: Recipe) -> tuple[Arrays, Arrays]:
    """Returns engine inputs for a text or a list of texts, split at white space, or for a list of lists of words."""
    given = [raw] if isinstance(raw, str) else raw
    if not isinstance(given, list | tuple) or not given or not all(isinstance(x, str | list | tuple) for x in given):
        raise InputError(
            f"the engine takes a text, a list of texts, or a list of lists of words, found {type(raw).__name__}."
        )
    texts = [x.split() if isinstance(x, str) else list(x) for x in given]
    return encode(folder, recipe, [{"words": words, "labels": [UNKNOWN] * len(words)} for words in texts])


def postprocess(folder: Path, outputs: Arrays, labels: Arrays) -> list[list[dict[str, Any]]]:
    """Returns {word, label} of every text's words; the label of a word that was cut, or has no token, is None."""
    answers = []
    for text, starts, names in zip(labels["words"], labels["start"], predict(outputs, labels), strict=True):
        named = dict(zip(starts[starts >= 0].tolist(), names, strict=True))
        answers.append([{"word": word, "label": named.get(i)} for i, word in enumerate(json.loads(str(text)))])
    return answers
