"""Facts about entities put into sentences, with the offsets of every name and value."""

import random
from dataclasses import dataclass, field

from calibration.samples.passage_templates import OPENINGS, Kind

Span = tuple[int, int]


@dataclass
class Entity:
    """One named thing of a passage, with the values of its attributes."""

    kind: Kind
    name: str
    word: str
    pronoun: str
    values: dict[str, str] = field(default_factory=dict)

    def mention(self, rng: random.Random) -> str:
        """Returns the entity's name in one of the ways its kind is mentioned, such as `the town of Velmar`."""
        return rng.choice(self.kind.mentions).format(n=self.name, k=self.word)


# A fact in a sentence: attribute, offset of the value, offset of the entity's name (None under a pronoun).
Stated = tuple[str, int, int | None]
# A sentence: its text, the entity it is about (None for a filler) and its facts.
Sentence = tuple[str, Entity | None, tuple[Stated, ...]]
# A fact in a passage: entity, attribute, offsets of the value and of the entity's name, span of the sentence.
Fact = tuple[Entity, str, int, int, Span]


def word_entity(rng: random.Random, entity: Entity) -> list[list[Sentence]]:
    """Returns groups of sentences that state all facts of the entity; each keeps its order, for its pronouns."""
    names = list(entity.values)
    rng.shuffle(names)
    groups: list[list[Sentence]] = []
    while names:
        size = min(len(names), rng.choice((1, 2, 2, 3)))
        groups.append(_word_group(rng, entity, [names.pop() for _ in range(size)]))
    return groups


def _word_group(rng: random.Random, entity: Entity, names: list[str]) -> list[Sentence]:
    """Returns one to three sentences about the entity, with pronouns after the first."""
    if len(names) == 1:
        return [_single(rng, entity, names[0])]
    if rng.random() < 0.5:
        double, rest = _double(rng, entity, names[:2]), names[2:]
        follow = [_predicate(rng, entity, rest, pronoun=True)] if rest else []
        return [double, *follow]
    first = _single(rng, entity, names[0])
    return [first, *(_predicate(rng, entity, [name], pronoun=True) for name in names[1:])]


def _single(rng: random.Random, entity: Entity, name: str) -> Sentence:
    if rng.random() < 0.4:
        return _render(rng, entity, rng.choice(entity.kind.attributes[name].sentences), [name])
    return _predicate(rng, entity, [name])


def _double(rng: random.Random, entity: Entity, names: list[str]) -> Sentence:
    """Returns two facts in one sentence: joined predicates or a relative clause."""
    if rng.random() < 0.5:
        return _predicate(rng, entity, names)
    first, second = (_choose(rng, entity, name, slot) for slot, name in enumerate(names))
    pronoun = "who" if entity.kind.animate else "which"
    return _render(rng, entity, f"{{e}}, {pronoun} {first}, {second}", names)


def _predicate(rng: random.Random, entity: Entity, names: list[str], pronoun: bool = False) -> Sentence:
    subject = "{p}" if pronoun else "{e}"
    predicates = " and ".join(_choose(rng, entity, name, slot) for slot, name in enumerate(names))
    return _render(rng, entity, f"{subject} {predicates}", names)


def _choose(rng: random.Random, entity: Entity, name: str, slot: int) -> str:
    predicate = rng.choice(entity.kind.attributes[name].predicates)
    return predicate.replace("{v}", f"{{v{slot}}}")


def _render(rng: random.Random, entity: Entity, template: str, names: list[str]) -> Sentence:
    """Returns the template filled in, with the offsets of what was filled in."""
    opening = rng.choice(OPENINGS) if rng.random() < 0.15 else ""
    described = not entity.kind.animate and rng.random() < 0.3
    pronoun = f"the {entity.word}" if described else entity.pronoun
    text = (opening + template).replace("{v}", "{v0}").replace("{p}", pronoun)
    fills = {f"{{v{slot}}}": entity.values[name] for slot, name in enumerate(names)}
    fills["{e}"] = entity.mention(rng)
    offsets: dict[str, int] = {}
    for key in sorted((key for key in fills if key in text), key=text.index):
        offsets[key] = text.index(key)
        text = text.replace(key, fills[key], 1)
    named = offsets["{e}"] + fills["{e}"].index(entity.name) if "{e}" in offsets else None
    stated = tuple((name, offsets[f"{{v{slot}}}"], named) for slot, name in enumerate(names))
    return text[0].upper() + text[1:] + ".", entity, stated


def join_sentences(groups: list[list[Sentence]]) -> tuple[str, list[Fact]]:
    """Returns the passage's text and its facts with their offsets; a pronoun stands for the last name before it."""
    text, facts = "", list[Fact]()
    for group in groups:
        last_named = 0
        for sentence, entity, stated in group:
            base = len(text) + bool(text)
            text = f"{text} {sentence}" if text else sentence
            for name, value_at, named_at in stated:
                last_named = last_named if named_at is None else base + named_at
                assert entity is not None
                facts.append((entity, name, base + value_at, last_named, (base, len(text))))
    return text, facts
