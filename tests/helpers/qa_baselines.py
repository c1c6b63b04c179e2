"""Ways to answer the generated questions without understanding them; each returns one answer per example."""

import re
from collections import Counter

from pipeline.checkpoints.bert_score import f1
from pipeline.tasks import _answers

Example = tuple[str, str, list[str]]  # question, context, answers

_CANDIDATE = re.compile(r"(?:[A-Z][a-z]+(?: [A-Z][a-z]+)*)|\d[\d,]*(?: [A-Z]?[a-z]+)?")
_NUMERIC = ("how", "when", "in what year", "in which year", "from which year", "on what date", "on which day")


def constant_span(fitted_on: list[Example], examples: list[Example]) -> list[str]:
    """The words at the one position and length that are right most often on `fitted_on`."""
    votes = Counter[tuple[int, int]]()
    for _, context, answers in fitted_on:
        words, answer = context.split(), answers[0].split()
        for start in range(len(words)):
            score = f1(" ".join(words[start : start + len(answer)]), answers)
            votes[start, len(answer)] += int(100 * score)
    start, length = votes.most_common(1)[0][0]
    return [" ".join(context.split()[start : start + length]) for _, context, _ in examples]


def candidate_by_rank(fitted_on: list[Example], examples: list[Example]) -> list[str]:
    """Without the question: the name or number at the rank that is right most often."""
    ranks = range(12)
    found = [(_candidates(context), answers) for _, context, answers in fitted_on]
    best = max(ranks, key=lambda rank: sum(f1(_at(candidates, rank), answers) for candidates, answers in found))
    return [_at(_candidates(context), best) for _, context, _ in examples]


def first_of_type(fitted_on: list[Example], examples: list[Example]) -> list[str]:
    """The first name, or the first number if one is asked for, that the question does not repeat."""
    del fitted_on
    return [_at(_typed(question, context), 0) for question, context, _ in examples]


def nearest_of_type(fitted_on: list[Example], examples: list[Example]) -> list[str]:
    """The name or number of the asked type that stands closest to a name or value the question repeats."""
    del fitted_on
    return [_nearest(question, context) for question, context, _ in examples]


def word_overlap(fitted_on: list[Example], examples: list[Example]) -> list[str]:
    """From the sentence that shares most words with the question: the first candidate of the asked type."""
    del fitted_on
    return [_overlap(question, context) for question, context, _ in examples]


def _overlap(question: str, context: str) -> str:
    asked = set(_answers.normalize(question))
    ranked = sorted(context.split(". "), key=lambda sentence: -len(asked & set(_answers.normalize(sentence))))
    answers = [candidate for sentence in ranked for candidate in _typed(question, sentence)]
    return _at(answers, 0)


def _nearest(question: str, context: str) -> str:
    words = _asked_words(question)
    repeated = [match.start() for word in words for match in re.finditer(re.escape(word), context)]
    candidates = _typed(question, context)
    if not candidates or not repeated:
        return _at(candidates, 0)
    return min(candidates, key=lambda text: min(abs(context.index(text) - at) for at in repeated))


def _typed(question: str, context: str) -> list[str]:
    """Candidates of the type that the question's first words suggest, without those the question repeats."""
    numeric = question.lower().startswith(_NUMERIC)
    asked = _plain(question)
    return [
        candidate
        for candidate in _candidates(context)
        if candidate[0].isdigit() == numeric and _plain(candidate) not in asked
    ]


def _candidates(context: str) -> list[str]:
    """Numbers and runs of capitalised words, without a sentence's capitalised function words."""
    plain = {"The", "It", "He", "She", "As", "According", "To", "By", "In", "On", "At", "About", "From"}
    found = (match.group() for match in _CANDIDATE.finditer(context))
    bare = (re.sub(r"^(The|In|On|By|At) ", "", text) for text in found)
    return [text for text in bare if text not in plain]


def _asked_words(question: str) -> list[str]:
    return [word for word in re.findall(r"[A-Z][a-z]+|\d[\d,]*", question)[1:] if len(word) > 1]


def _plain(text: str) -> str:
    return " ".join(_answers.normalize(text))


def _at(candidates: list[str], rank: int) -> str:
    return candidates[rank] if rank < len(candidates) else ""


BASELINES = (constant_span, candidate_by_rank, first_of_type, nearest_of_type, word_overlap)
