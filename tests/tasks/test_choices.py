"""Questions with choices, in every form that they come in, and what is no such form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import InputError
from pipeline.tasks import _choices

SWAG = {"sent1": "He opens the box.", "sent2": "The cat", "ending0": "sleeps.", "ending1": "jumps out.", "label": 1}
PAIRS = (("He opens the box.", "The cat sleeps."), ("He opens the box.", "The cat jumps out."))
FORMS: dict[str, str] = {
    "swag.jsonl": json.dumps(SWAG),
    "swag.csv": "video-id,fold-ind,startphrase,sent1,sent2,gold-source,ending0,ending1,label\n"
    "a,1,He opens the box. The cat,He opens the box.,The cat,gold,sleeps.,jumps out.,1\n",
    "swag.tsv": "sent1\tsent2\tending0\tending1\tlabel\nHe opens the box.\tThe cat\tsleeps.\tjumps out.\t1\n",
    "race.json": json.dumps([
        {"article": "He opens the box.", "question": "The cat", "options": ["sleeps.", "jumps out."], "answer": "B"}
    ]),
    "plain.json": json.dumps({"data": [
        {"context": "He opens the box.", "question": "The cat", "choices": ["sleeps.", "jumps out."], "label": "1"}
    ]}),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_pairs(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FORMS[name] + "\n", encoding="utf-8")
    (found,) = _choices.read_file(tmp_path / name)
    assert (found.pairs, found.label, found.choices) == (PAIRS, 1, ("sleeps.", "jumps out."))


@pytest.mark.parametrize(
    ("entry", "pairs"),
    [
        ({"question": "Why?", "choices": ["a", "b"]}, (("Why?", "a"), ("Why?", "b"))),
        ({"context": "So.", "choices": ["a", "b"]}, (("So.", "a"), ("So.", "b"))),
        ({"sent1": "So.", "sent2": "", "ending0": "a", "ending1": "b"}, (("So.", "a"), ("So.", "b"))),
    ],
)
def test_a_question_or_a_context_alone(entry: dict[str, Any], pairs: tuple[tuple[str, str], ...]) -> None:
    assert _choices.question(entry, "x", labelled=False).pairs == pairs


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label": 2}, "label 2 is none of its 2 choices, 0 to 1 or A to B"),
        ({"label": "C"}, "label 'C' is none"),
        ({"label": None}, "label None is none"),
        ({"label": True}, "label True is none"),
        ({"ending1": " "}, "choice 1 is empty"),
        ({"ending1": 7}, "choice 1 is int, not a string"),
        ({"choices": "sleeps"}, "its choices must be a list of two or more, found 'sleeps'"),
        ({"choices": ["sleeps"]}, "its choices must be a list of two or more"),
        ({"sent1": ""}, "its context or question is empty"),
    ],
)
def test_a_question_of_no_use_is_told(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"^x: {said}"):
        _choices.question({**SWAG, **changes}, "x", labelled=True)


@pytest.mark.parametrize("entry", [[1], {"question": "a"}, {"choices": ["a", "b"]}, 7])
def test_another_form_is_told_with_what_is_expected(entry: Any) -> None:
    with pytest.raises(InputError, match=r'x: expected \{"context": …, .* as SWAG; found '):
        _choices.question(entry, "x", labelled=True)


def test_rows_of_other_lengths_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question,ending0,ending1,label\na,b,c,0\na,b\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.csv line 3 has 2 columns, expected 4: question, ending0"):
        _choices.read_file(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("question,ending0,ending1,label\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.csv has no rows"):
        _choices.read_file(tmp_path / "a.csv")
