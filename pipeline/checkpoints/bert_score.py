"""Scores of extractive question answering: SQuAD v1.1 F1 and exact match, and the span that logits name."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.tasks import _answers
from pipeline.tasks._answers import normalize

LONGEST_ANSWER = 16  # tokens


def f1(prediction: str, answers: list[str]) -> float:
    """Returns the best word overlap of the prediction with an answer, in [0, 1] (SQuAD, arXiv:1606.05250, 6.1)."""
    return max(_answers.f1(prediction, answer) for answer in answers)


def exact_match(prediction: str, answers: list[str]) -> bool:
    """Returns whether the prediction equals one of the answers but for case, punctuation and articles."""
    return normalize(prediction) in [normalize(answer) for answer in answers]


def best_span(start: NDArray[Any], end: NDArray[Any], allowed: NDArray[Any]) -> tuple[int, int]:
    """Returns the first and last token of the span with the highest start + end logit; all three arrays are [S].

    Only spans of at most `LONGEST_ANSWER` tokens that begin and end on an allowed token count.
    """
    low = np.finfo(np.float32).min / 4
    scores = np.where(allowed, start, low)[:, None] + np.where(allowed, end, low)[None, :]  # [S, S]
    every = np.ones_like(scores, dtype=bool)
    band = np.triu(every) & ~np.triu(every, LONGEST_ANSWER)
    first, last = np.unravel_index(int(np.argmax(np.where(band, scores, 4 * low))), scores.shape)
    return int(first), int(last)


def flatten(document: dict[str, Any]) -> list[tuple[str, str, list[str]]]:
    """Returns every (question, context, answers) of a SQuAD v1.1 document, in its order."""
    return [
        (qa["question"], paragraph["context"], [answer["text"] for answer in qa["answers"]])
        for article in document["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]


def predict(
    checkpoint: str | Path, examples: list[tuple[str, str, list[str]]], max_length: int, batch: int = 32
) -> list[str]:
    """Returns one answer per example, from the checkpoint's own tokenizer and its weights in float32."""
    import torch
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForQuestionAnswering.from_pretrained(checkpoint, dtype=torch.float32).eval()
    answers = []
    for at in range(0, len(examples), batch):
        questions, contexts = zip(*((q, c) for q, c, _ in examples[at : at + batch]), strict=True)
        encoded = tokenizer(
            list(questions), list(contexts), truncation="only_second", max_length=max_length, padding=True,
            return_offsets_mapping=True, return_tensors="pt",
        )  # fmt: skip
        offsets = encoded.pop("offset_mapping")
        with torch.no_grad():
            output = model(**encoded)
        for row, context in enumerate(contexts):
            allowed = np.array([part == 1 for part in encoded.sequence_ids(row)])
            first, last = best_span(output.start_logits[row].numpy(), output.end_logits[row].numpy(), allowed)
            answers.append(context[offsets[row, first, 0] : offsets[row, last, 1]])
    return answers


def score(predictions: list[str], examples: list[tuple[str, str, list[str]]]) -> dict[str, float]:
    """Returns mean F1 and exact match, in per cent."""
    pairs = [(prediction, answers) for prediction, (_, _, answers) in zip(predictions, examples, strict=True)]
    return {
        "f1": 100 * float(np.mean([f1(prediction, answers) for prediction, answers in pairs])),
        "em": 100 * float(np.mean([exact_match(prediction, answers) for prediction, answers in pairs])),
    }
