"""Extractive question answering in SQuAD format (Rajpurkar et al. 2016, arXiv:1606.05250).

With `question_answering.no_answer_threshold` a question may have no answer, as in SQuAD v2 (arXiv:1806.03822): where
[CLS] scores above the best answer by more than the threshold, the answer is "". As in BERT's own evaluation, the score
of [CLS] is the lowest of all windows of a context.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import InputError
from pipeline.tasks import Arrays, _answers, _defaults, _files, _text, equal_share, take
from pipeline.tasks._answers import questions
from pipeline.tasks._heads import Head
from pipeline.tasks._squad import read_file, read_squad

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

    from pipeline.recipe import Recipe

HEADS = (Head("ForQuestionAnswering", ("start_logits", "end_logits")),)
METRIC = "f1"
AGREEMENT = 0.95  # answers, letter by letter
SAMPLES = {"calibration": 64, "selection": 64, "evaluation": 500}

score = _answers.score
tally = _answers.tally
chance = _answers.chance
unjudgeable = _answers.unjudgeable
metric = _defaults.metric
per_class = _answers.per_class
reference_labels = _defaults.reference_labels
settings = _defaults.settings
unseen = _defaults.unseen

STRIDE = 32  # tokens that two windows of a long context share
LONGEST_ANSWER = 30  # tokens
NEEDED = {"question", "context"}  # to give an answer


def samples(recipe: Recipe, config: dict[str, Any], split: str, count: int, *, folder: Path) -> list[dict[str, Any]]:
    """Returns {id, question, context, answers} dicts, from the user's file or the generator."""
    if recipe.data is None:
        from calibration.samples import passages
        from calibration.samples.seeds import BY_SPLIT

        return read_squad(passages.generate_squad(BY_SPLIT[split] + recipe.seed, count), "the generator")[:count]
    asked = read_file(_files.located(recipe.data), unanswerable=recipe.question_answering.takes_none)
    return take(asked, split, recipe, SAMPLES)


def encode(folder: Path, recipe: Recipe, samples: list[dict[str, Any]]) -> tuple[Arrays, Arrays]:
    """Returns inputs [N, S] and labels; a context longer than S gives several windows with one id."""
    length = recipe.shapes.sequence_length
    stride, threshold = _stride(recipe), recipe.question_answering.no_answer_threshold
    tokenizer = _text.tokenizer(folder, length, pair=True, stride=stride)
    encodings, labels = [], []
    for sample in samples:
        _check_room(tokenizer, sample, length, stride)
        first = tokenizer.encode(sample["question"], sample["context"])
        for window in (first, *first.overflowing):
            encodings.append(window)
            labels.append(json.dumps({**sample, **_seen(sample["context"], window), "threshold": threshold}))
    return _text.arrays(encodings), {"sample": np.array(labels)}


def _stride(recipe: Recipe) -> int:
    """Returns how many tokens two windows share. Raises InputError for so many that none would move on."""
    length, asked = recipe.shapes.sequence_length, recipe.question_answering.stride
    if asked is not None and asked > length // 2:
        raise InputError(
            f"question_answering.stride = {asked} is more than half of shapes.sequence_length = {length}: windows "
            "would hardly move on."
        )
    return min(STRIDE, length // 4) if asked is None else asked


def _check_room(tokenizer: Tokenizer, sample: dict[str, Any], length: int, stride: int) -> None:
    """Raises InputError for a question that leaves no room for its context: the tokenizer would panic."""
    for key in ("question", "context"):
        _files.check_text(sample[key], f"{key} of question {sample['id']!r}")
    room = length - tokenizer.num_special_tokens_to_add(is_pair=True) - _tokens(tokenizer, sample["question"])
    if room <= stride and _tokens(tokenizer, sample["context"]) > room:
        raise InputError(
            f"question {sample['id']!r} leaves no room for its context in {length} tokens ({max(room, 0)}); raise "
            "shapes.sequence_length, or leave the question out."
        )


def _tokens(tokenizer: Tokenizer, text: str) -> float:
    """Returns how many tokens a text has, infinity where they exceed the tokenizer's length."""
    try:
        return sum(tokenizer.encode(text, add_special_tokens=False).attention_mask)
    except Exception:  # noqa: BLE001 the Rust library raises bare Exceptions
        return math.inf


def _seen(context: str, window: Encoding) -> dict[str, Any]:
    """Returns the part of a context that a window sees, its start, and every token's place and text.

    The part, not the whole: n / S windows with a copy of n characters each would be quadratic.
    """
    places = list(zip(window.offsets, window.sequence_ids, strict=True))
    spans = [span for span, sequence in places if sequence == 1]
    first, last = (spans[0][0], spans[-1][1]) if spans else (0, 0)
    return {
        "context": context[first:last],
        "start": first,
        "offsets": [(b - first, e - first) if sequence == 1 else (b, e) for (b, e), sequence in places],
        "sequence_ids": window.sequence_ids,
    }


def own_encoding(folder: Path, recipe: Recipe, samples: list[dict[str, Any]]) -> Arrays:
    """Returns the inputs that the checkpoint's own tokenizer makes."""
    length = recipe.shapes.sequence_length
    pairs = [(s["question"], s["context"]) for s in samples]
    return _text.own_encoding(folder, length, pairs, stride=_stride(recipe))


def judged(outputs: Arrays, labels: Arrays) -> Arrays:
    """Returns the logits of context tokens [tokens], the only ones that an answer can lie in, and of [CLS] where it
    says that there is none.
    """
    windows = [json.loads(str(text)) for text in labels["sample"]]
    at = np.array([[sequence == 1 for sequence in window["sequence_ids"]] for window in windows])
    at[:, 0] |= [window.get("threshold") is not None for window in windows]
    return {name: value[at] for name, value in outputs.items()}


def predict(outputs: Arrays, labels: Arrays) -> list[str]:
    """Returns the best answer text of every question, in order of first appearance; "" where it has none.

    The span has the largest start + end logit over the context tokens of all windows, its end not before its start.
    """
    best: dict[str, tuple[float, str]] = {}
    none: dict[str, float] = {}
    for start, end, text in zip(outputs["start_logits"], outputs["end_logits"], labels["sample"], strict=True):
        sample = json.loads(str(text))
        score, answer = _best_span(start, end, sample)
        known = best.get(sample["id"])
        if known is None or score > known[0]:
            best[sample["id"]] = (score, answer)
        if sample.get("threshold") is not None:
            lowest = float(start[0] + end[0]) - sample["threshold"]
            none[sample["id"]] = min(none.get(sample["id"], lowest), lowest)
    return ["" if none.get(name, -np.inf) > score else answer for name, (score, answer) in best.items()]


def further(outputs: Arrays, labels: Arrays) -> dict[str, float]:
    """Returns the share of answers that are word by word an accepted one, SQuAD's other metric."""
    return {"exact match": _answers.exact_match(predict(outputs, labels), labels)}


def _best_span(start: np.ndarray, end: np.ndarray, sample: dict[str, Any]) -> tuple[float, str]:
    tokens = [i for i, sequence in enumerate(sample["sequence_ids"]) if sequence == 1]
    if not tokens:
        return -np.inf, ""
    first, last = tokens[0], tokens[-1] + 1
    scores = start[first:last, None] + end[None, first:last]  # [T, T]
    allowed = np.triu(np.ones_like(scores, dtype=bool)) & ~np.triu(np.ones_like(scores, dtype=bool), LONGEST_ANSWER)
    scores = np.where(allowed, scores, -np.inf)
    at = np.unravel_index(int(np.argmax(scores)), scores.shape)
    begin, stop = sample["offsets"][first + at[0]][0], sample["offsets"][first + at[1]][1]
    return float(scores[at]), sample["context"][begin:stop]


def agreement(a: list[str], b: list[str]) -> float:
    return equal_share(a, b)


def examples(
    inputs: Arrays, labels: Arrays, reference: list[str], engine: list[str], limit: int
) -> list[dict[str, Any]]:
    """Returns questions with both answers, those that differ first."""
    rows = [
        {"question": q["question"], "context": q["context"], "answers": q["answers"], "float": a, "engine": b}
        for q, a, b in zip(questions(labels), reference, engine, strict=True)
    ]
    return _defaults.differing_first(rows, limit)


def preprocess(folder: Path, raw: Any, recipe: Recipe) -> tuple[Arrays, Arrays]:
    """Returns engine inputs for a {question, context} dict or a list of them, and what `postprocess` needs."""
    rows = [raw] if isinstance(raw, dict) else raw
    whole = isinstance(rows, list | tuple) and all(isinstance(row, dict) and row.keys() >= NEEDED for row in rows)
    if not (whole and rows):
        raise InputError('the engine takes {"question": …, "context": …}, or a list of such dicts.')
    # one answer each, whatever their ids
    return encode(folder, recipe, [{"answers": [], **row, "id": str(i)} for i, row in enumerate(rows)])


def postprocess(folder: Path, outputs: Arrays, labels: Arrays) -> list[str]:
    """Returns one answer text per question, "" for one without."""
    return predict(outputs, labels)
