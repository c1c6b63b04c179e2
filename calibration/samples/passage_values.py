"""Names and values that passages are filled with: syllables, word lists, numbers and dates."""

import random
from collections.abc import Callable


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ONSETS = _words("b br d dr f g gr h k l m n p r s st t tr v z")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ei", "ou")
_CODAS = ("", "", "l", "n", "r", "s", "k", "m", "th")
_TOWN_ENDINGS = ("", "", "", "ford", "haven", "mere", "by", "stead", "wick", "dale")
_FIRMS = ("Works", "Brothers", "Mills", "Trading", "Partners", "Foundry")
_BUILDINGS = ("Tower", "Bridge", "Hall", "Chapel", "Gate", "Lighthouse")
_FEASTS = ("Festival", "Fair", "Regatta", "Contest", "Parade", "Games")

_ADJECTIVES = _words(
    "silent golden crooked northern winter broken distant velvet burning hidden eastern gentle "
    "wandering frozen lonely crimson restless ancient iron merry"
)
_NOUNS = _words(
    "heron lantern harbour orchard mirror sparrow compass anchor meadow thunder candle raven "
    "garden feather island horizon falcon crown willow tide"
)
_MONTHS = _words("January February March April May June July August September October November December")

# No colour, job or animal starts with a vowel: the templates say "a {v}".
_CHOICES = {
    "colour": _words(
        "red blue green yellow black white grey brown purple pink silver turquoise violet scarlet beige cream"
    ),
    "product": _words(
        "salt wool timber copper glass honey silk tin coal leather spices paper candles barley wine rope "
        "pottery needles clocks amber"
    ),
    "job": _words(
        "baker surgeon tailor teacher sailor carpenter lawyer gardener blacksmith painter clerk printer "
        "fisherman watchmaker cook miller"
    ),
    "subject": _words(
        "botany astronomy law medicine geometry theology chemistry history music geology poetry logic "
        "architecture navigation"
    ),
    "instrument": _words("violin flute trumpet harp cello piano drum lute clarinet organ guitar oboe"),
    "material": _words("granite oak brick marble steel sandstone limestone slate bronze concrete pine clay"),
    "animal": _words(
        "lynx tapir beaver zebra camel panther badger moose wolf bison walrus lemur puma gazelle"
    ),
    "food": (
        "apples", "cabbage", "fresh fish", "roasted chestnuts", "oat bread", "pumpkin soup", "sweet berries",
        "carrots", "lentil stew", "plum cake", "goat cheese", "dried figs",
    ),
}  # fmt: skip


def draw_entity_name(rng: random.Random, kind: str, taken: set[str]) -> str:
    """Returns a name for an entity of the kind that is not in `taken`, and adds it there."""
    return _fresh(rng, _NAMES[kind], taken)


def draw_value(rng: random.Random, value_type: str, taken: set[str]) -> str:
    """Returns a value of the type that is not in `taken`, and adds it there."""
    choices = _CHOICES.get(value_type)
    if choices is not None:
        return _fresh(rng, lambda source: source.choice(choices), taken)
    return _fresh(rng, _VALUES[value_type], taken)


def _fresh(rng: random.Random, draw: Callable[[random.Random], str], taken: set[str]) -> str:
    while (value := draw(rng)) in taken:
        pass
    taken.add(value)
    return value


def _syllables(rng: random.Random, count: int) -> str:
    parts = (rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(count))
    return "".join(parts).capitalize()


def _person(rng: random.Random) -> str:
    return f"{_syllables(rng, rng.choice((1, 2)))} {_syllables(rng, 2)}"


def _town(rng: random.Random) -> str:
    return _syllables(rng, 2) + rng.choice(_TOWN_ENDINGS)


def _river(rng: random.Random) -> str:
    return f"{_syllables(rng, 2)} {rng.choice(('River', 'Brook', 'Stream'))}"


def _ship(rng: random.Random) -> str:
    return f"{rng.choice(_ADJECTIVES).capitalize()} {rng.choice(_NOUNS).capitalize()}"


def _company(rng: random.Random) -> str:
    return f"{_syllables(rng, 2)} {rng.choice(_FIRMS)}"


def _book(rng: random.Random) -> str:
    noun, other = (word.capitalize() for word in rng.sample(_NOUNS, 2))
    return rng.choice((f"The {noun} of {_town(rng)}", f"{noun} and {other}", f"{_ship(rng)}s"))


def _building(rng: random.Random) -> str:
    return f"{rng.choice((_syllables(rng, 2), rng.choice(_NOUNS).capitalize()))} {rng.choice(_BUILDINGS)}"


def _feast(rng: random.Random) -> str:
    return f"{rng.choice((_syllables(rng, 2), rng.choice(_NOUNS).capitalize()))} {rng.choice(_FEASTS)}"


def _animal_name(rng: random.Random) -> str:
    return _syllables(rng, 2)


def _year(rng: random.Random) -> str:
    return str(rng.randint(1203, 2019))


def _date(rng: random.Random) -> str:
    day, month = rng.randint(1, 28), rng.choice(_MONTHS)
    return rng.choice((f"{day} {month}", f"{day} {month} {_year(rng)}", f"{month} {day}"))


def _number(rng: random.Random) -> str:
    return f"{rng.randint(3, 10 ** rng.choice((2, 3, 4, 5))):,}"


def _length(rng: random.Random) -> str:
    return f"{rng.randint(4, 400)} {rng.choice(('metres', 'feet', 'yards'))}"


def _weight(rng: random.Random) -> str:
    return f"{rng.randint(4, 900)} {rng.choice(('kilograms', 'pounds'))}"


_NAMES: dict[str, Callable[[random.Random], str]] = {
    "town": _town,
    "ship": _ship,
    "person": _person,
    "company": _company,
    "book": _book,
    "bridge": _building,
    "festival": _feast,
    "animal": _animal_name,
}
_VALUES: dict[str, Callable[[random.Random], str]] = {
    "person": _person,
    "place": _town,
    "river": _river,
    "year": _year,
    "date": _date,
    "number": _number,
    "length": _length,
    "weight": _weight,
}
