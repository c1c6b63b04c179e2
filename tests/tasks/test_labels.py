"""Labels of data against the classes of a checkpoint: names or indices, never some of both."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import InputError
from pipeline.tasks import _labels


def test_class_names_are_in_index_order_and_have_defaults() -> None:
    assert _labels.class_names({"id2label": {"10": "k", "2": "c", "0": "a"}}) == ["a", "c", "k"]
    assert _labels.class_names({"num_labels": 3}) == ["LABEL_0", "LABEL_1", "LABEL_2"]


@pytest.mark.parametrize(("given_label", "expected"), [("LABEL_1", 1), ("1", 1), (0, 0), ("0", 0)])
def test_labels_are_names_or_indices(given_label: Any, expected: int) -> None:
    assert _labels.indices([given_label], ["LABEL_0", "LABEL_1"], "x", _labels.row) == [expected]


@pytest.mark.parametrize("given_label", ["2", 2, -1, "positive", None, 0.5, True, ""])
def test_other_labels_are_refused(given_label: Any) -> None:
    with pytest.raises(InputError, match=r"x row 4: label .* is not one of the checkpoint's"):
        _labels.indices(["0", "1", "0", given_label], ["LABEL_0", "LABEL_1"], "x", _labels.row)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["1", "3", "5"], [0, 2, 4]),  # all names, of which "5" is no index
        (["0", "4", "1"], [0, 4, 1]),  # "0" is no name: all are indices, never some of them
        ([1, 3, 4], [1, 3, 4]),  # numbers in JSON are indices
        (["1 star", "2 stars"], None),
    ],
)
def test_numbers_are_all_names_or_all_indices(labels: list[Any], expected: list[int] | None) -> None:
    """Ratings 1 to 5 were read half as names, half as indices: 0 to 4 became 0, 0, 1, 2, 3."""
    names = ["1", "2", "3", "4", "5"]
    if expected is None:
        with pytest.raises(InputError, match="row 1: label '1 star'"):
            _labels.indices(labels, names, "x", _labels.row)
    else:
        assert _labels.indices(labels, names, "x", _labels.row) == expected


def test_text_that_could_be_both_is_refused() -> None:
    with pytest.raises(InputError, match=r"the labels \(1, 2\) are names of .* and also indices of others. Use JSONL"):
        _labels.indices(["1", "2", "1"], ["1", "2", "3"], "x", _labels.row)
    assert _labels.indices(["1", "0"], ["0", "1"], "x", _labels.row) == [1, 0], (
        "where both mean the same, nothing is lost"
    )


def test_a_mixture_is_refused_at_the_first_label_that_is_no_name() -> None:
    with pytest.raises(InputError, match="row 2: label '1'"):
        _labels.indices(["good", "1"], ["bad", "good"], "x", _labels.row)


@pytest.mark.parametrize("label", ["²", "١", "1" * 5000, "0x1", "1.0", " 1", 1.0, [1], {}, ""])
def test_labels_that_are_no_index_are_told_not_raised(label: Any) -> None:
    with pytest.raises(InputError, match="row 1: label"):
        _labels.indices([label], ["bad", "good"], "x", _labels.row)
