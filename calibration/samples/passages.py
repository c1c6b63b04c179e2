"""Passages and questions in SQuAD v1.1 format, drawn from a seed.

A passage speaks of several entities of one kind (and sometimes one of another kind), each with the same
attributes, so that every asked value has rivals of its own type. Facts are worded by paraphrases drawn at
random, joined, put into relative clauses or carried on by a pronoun; sentence groups are shuffled. Names are
built from syllables, so a vocabulary cannot hold them whole and no passage repeats another's facts.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.samples.passage_templates import FILLERS, KINDS, Kind
from calibration.samples.passage_values import draw_entity_name, draw_value
from calibration.samples.passage_wording import Entity, Fact, Span, join_sentences, word_entity

QUESTIONS_PER_PASSAGE = 4
REVERSE_SHARE = 0.25  # of the questions ask for the entity instead of the value
FULL_SIZE = (6, 11)  # facts in a passage: 60 to 140 tokens


@dataclass(frozen=True)
class Question:
    """One question, its answer as a span of the passage, and spans that help a model in training to find it.

    `evidence` is the sentence with the answer, `about` every sentence about the entity, `anchors` where the
    passage repeats what the question names, `rivals` every span that the question's wording could ask for.
    """

    text: str
    answer: str
    start: int
    evidence: tuple[Span, ...]
    about: tuple[Span, ...]
    anchors: tuple[Span, ...]
    rivals: tuple[Span, ...]


@dataclass(frozen=True)
class Passage:
    """One passage with its questions."""

    text: str
    questions: tuple[Question, ...]


def draw_passage(rng: random.Random, facts: tuple[int, int] = FULL_SIZE) -> Passage:
    """Returns one passage that states `facts[0]` to `facts[1]` facts, with up to four questions about them."""
    entities = _draw_entities(rng, rng.randint(*facts))
    pieces = [piece for entity in entities for piece in word_entity(rng, entity)]
    rng.shuffle(pieces)
    for filler in rng.sample(FILLERS, rng.choice((0, 0, 1, 1, 2))):
        pieces.insert(rng.randint(0, len(pieces)), [(filler, None, ())])
    text, stated = join_sentences(pieces)
    askable = [fact for fact in stated if _has_rival(entities, fact[0], fact[1])]
    rng.shuffle(askable)
    questions = [_ask(rng, text, fact, stated) for fact in askable[:QUESTIONS_PER_PASSAGE]]
    return Passage(text, tuple(questions))


def generate_squad(seed: int, questions: int) -> dict[str, Any]:
    """Returns a SQuAD v1.1 document with exactly `questions` questions; equal arguments give equal documents."""
    if questions < 1:
        raise ValueError(f"questions is {questions}; ask for at least 1")
    paragraphs: list[dict[str, Any]] = []
    remaining = questions
    for index, passage in enumerate(passages(seed)):
        asked = passage.questions[:remaining]
        entries = [
            {
                "id": f"{seed}-{index}-{number}",
                "question": question.text,
                "answers": [{"text": question.answer, "answer_start": question.start}],
            }
            for number, question in enumerate(asked)
        ]
        paragraphs.append({"context": passage.text, "qas": entries})
        remaining -= len(asked)
        if not remaining:
            break
    title = f"generated passages, seed {seed}"
    return {"version": "1.1", "data": [{"title": title, "paragraphs": paragraphs}]}


def passages(seed: int, facts: tuple[int, int] = FULL_SIZE) -> Iterator[Passage]:
    """Yields passages without end; passage i of a seed is the same however many are read."""
    index = 0
    while True:
        # A string seed is hashed whole, so neighbouring seeds and indices are unrelated.
        yield draw_passage(random.Random(f"{seed}/{index}"), facts)
        index += 1


def write_squad(path: str | Path, seed: int, questions: int) -> None:
    """Writes `generate_squad(seed, questions)` to `path` as JSON."""
    document = json.dumps(generate_squad(seed, questions), indent=1)
    Path(path).write_text(document + "\n", encoding="utf-8")


def _draw_entities(rng: random.Random, facts: int) -> list[Entity]:
    """Returns entities with `facts` attributes in total, most of them of one kind and with the same attributes."""
    kind = rng.choice(KINDS)
    count = 2 if facts < 6 else rng.choice((2, 3, 3, 4))
    shared = rng.sample(sorted(kind.attributes), min(len(kind.attributes), max(2, -(-facts // count))))
    taken: set[str] = set()
    entities = [_new_entity(rng, kind, taken) for _ in range(count)]
    slots = [(entity, attribute) for attribute in shared for entity in entities][:facts]
    if facts > len(slots) or (facts >= 6 and rng.random() < 0.3):
        other = _new_entity(rng, rng.choice(KINDS), taken)
        extra = rng.sample(sorted(other.kind.attributes), 2)
        slots = slots[: facts - 2] + [(other, attribute) for attribute in extra]
        entities.append(other)
    for entity, attribute in slots:
        entity.values[attribute] = draw_value(rng, entity.kind.attributes[attribute].value, taken)
    return [entity for entity in entities if entity.values]


def _new_entity(rng: random.Random, kind: Kind, taken: set[str]) -> Entity:
    pronoun = rng.choice(("she", "he")) if kind.animate else "it"
    return Entity(kind, draw_entity_name(rng, kind.name, taken), rng.choice(kind.words), pronoun)


def _has_rival(entities: list[Entity], entity: Entity, attribute: str) -> bool:
    """Returns whether another entity of the same kind has the attribute too."""
    return any(e is not entity and e.kind is entity.kind and attribute in e.values for e in entities)


def _ask(rng: random.Random, text: str, fact: Fact, stated: list[Fact]) -> Question:
    """Returns a question about the fact, its answer a span of `text`; `stated` are all facts of the passage."""
    entity, name, _, _, evidence = fact
    attribute, value = entity.kind.attributes[name], entity.values[name]
    same = [other for other in stated if other[0].kind is entity.kind and other[1] == name]
    if rng.random() < REVERSE_SHARE:
        template, (start, end) = rng.choice(attribute.reverse), _name(fact)
        anchors, rivals = [_value(fact)], [_name(other) for other in same]
    else:
        template, (start, end) = rng.choice(attribute.questions), _value(fact)
        anchors = [_name(other) for other in stated if other[0] is entity]
        rivals = [_value(other) for other in same]
    asked = template.format(e=entity.mention(rng), v=value, k=entity.word)
    about = tuple(sorted({other[4] for other in stated if other[0] is entity}))
    # The span is cut from the text, not from the values: a sentence may have capitalised its first letter.
    return Question(
        text=asked[0].upper() + asked[1:],
        answer=text[start:end],
        start=start,
        evidence=(evidence,),
        about=about,
        anchors=tuple(anchors),
        rivals=tuple(rivals),
    )


def _name(fact: Fact) -> Span:
    return fact[3], fact[3] + len(fact[0].name)


def _value(fact: Fact) -> Span:
    return fact[2], fact[2] + len(fact[0].values[fact[1]])
