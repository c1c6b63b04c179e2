"""Entity F1 against seqeval's own, and the labels that are no tags."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from pipeline.tasks import _counts, _entities

NAMES = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]


def labelled(rng: np.random.Generator, texts: int, names: list[str]) -> list[list[str]]:
    return [[str(x) for x in rng.choice(names, rng.integers(1, 12))] for _ in range(texts)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("names", [NAMES, [*NAMES, "E-PER", "S-PER", "S-LOC"]], ids=["IOB", "IOBES"])
def test_counts_give_the_scores_of_seqeval(seed: int, names: list[str]) -> None:
    from seqeval.metrics import f1_score

    rng = np.random.default_rng(seed)
    truth = labelled(rng, 30, names)
    found = [[t if rng.random() < 0.8 else str(rng.choice(names)) for t in row] for row in truth]
    counted = _entities.counts(found, truth, names)
    assert float(_counts.f1(counted.sum((0, 1)))) == pytest.approx(f1_score(truth, found))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        each = f1_score(truth, found, average=None)
    assert _entities.types(names) == ["LOC", "ORG", "PER"]
    np.testing.assert_allclose(_counts.f1(counted.sum(0)), each)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["B-PER", "I-PER", "O", "B-LOC"], [("PER", 0, 1), ("LOC", 3, 3)]),
        (["I-PER", "I-PER", "B-PER"], [("PER", 0, 1), ("PER", 2, 2)]),  # IOB1, as CoNLL-2003 is stored
        (["B-PER", "I-LOC"], [("PER", 0, 0), ("LOC", 1, 1)]),
        (["B-PER", "L-PER", "U-LOC"], [("PER", 0, 1), ("LOC", 2, 2)]),  # BILOU
        (["B-PER", "M-PER", "E-PER", "W-LOC"], [("PER", 0, 2), ("LOC", 3, 3)]),  # BMEWO
        (["O", "O"], []),
        ([], []),
    ],
)
def test_entities_of_every_scheme(labels: list[str], expected: list[tuple[str, int, int]]) -> None:
    names = ["O", *(f"{tag}-{kind}" for tag in "BILUMEWS" for kind in ("PER", "LOC"))]
    assert _entities.entities(labels, names) == expected


def test_labels_that_are_no_tags_are_entities_of_one_word() -> None:
    """seqeval itself takes their first letter for the tag: the types of NOUN and VERB would be OUN and ERB."""
    names = ["NOUN", "VERB", "X-ray"]
    assert _entities.types(names) == sorted(names)
    assert _entities.entities(["NOUN", "NOUN", "VERB"], names) == [("NOUN", 0, 0), ("NOUN", 1, 1), ("VERB", 2, 2)]
    counted = _entities.counts([["NOUN", "VERB"]], [["NOUN", "NOUN"]], names)
    assert float(_counts.f1(counted.sum((0, 1)))) == 0.5, "the share of right words"


def test_nothing_expected_and_nothing_found_is_right() -> None:
    assert _counts.f1(np.array([[0.0, 0, 0], [0, 1, 0], [0, 0, 2], [1, 1, 1]])).tolist() == [1, 0, 0, 1]
