"""Which engine ships: the fastest that is sound, and never a slower int8 engine."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import EngineRefused
from pipeline.judge.candidates import Candidate, Verdict, choose, refusal, ship

NOISE = (0.98, 1.01, 1.0, 0.99, 1.02, 1.0, 1.01, 0.98, 1.0, 1.02, 0.99, 1.0)


def candidate(precision: str, ms: float, fault: str | None = None) -> Candidate:
    return Candidate("openvino", precision, tuple(1e-3 * ms * x for x in NOISE), fault)


@pytest.mark.parametrize(
    ("int8", "fp16", "fp32", "expected"),
    [
        (1.0, 2.0, 4.0, "int8"),
        (2.0, 1.0, 4.0, "fp16"),  # int8 is slower
        (1.0, 1.0, 4.0, "fp16"),  # and as fast: the more exact one
        (3.0, 2.0, 1.0, "fp32"),
        (1.0, 1.0, 1.0, "fp32"),
    ],
)
def test_the_fastest_ships(int8: float, fp16: float, fp32: float, expected: str) -> None:
    times = {"int8": int8, "fp16": fp16, "fp32": fp32}
    for names in (("int8", "fp16", "fp32"), ("fp32", "fp16", "int8")):
        assert choose([candidate(name, times[name]) for name in names]).precision == expected


def test_a_gain_within_the_noise_is_none() -> None:
    int8 = Candidate("openvino", "int8", (0.9, 1.1, 0.9, 1.1, 0.9, 1.1, 0.9), None)
    fp16 = Candidate("openvino", "fp16", (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0), None)
    assert int8.median < fp16.median
    assert choose([int8, fp16]) is fp16


def test_a_slow_round_does_not_make_a_far_slower_engine_as_fast() -> None:
    int8 = Candidate("openvino", "int8", (4.3, 4.2, 20.0, 4.4, 18.0, 4.3), None)
    fp32 = Candidate("openvino", "fp32", (12.4, 12.5, 12.3, 12.4, 12.6, 12.4), None)
    assert choose([int8, fp32]) is int8


def test_a_faster_one_with_a_fault_does_not_ship() -> None:
    found = choose([candidate("int8", 1.0, "miou drops by 5 %"), candidate("fp16", 2.0), candidate("fp32", 4.0)])
    assert found.precision == "fp16"


def test_without_a_sound_one_every_fault_is_named() -> None:
    with pytest.raises(EngineRefused, match=r"int8: drops(.|\n)*fp16: wrong at batch 2"):
        choose([candidate("int8", 1.0, "drops"), Candidate("openvino", "fp16", (), "wrong at batch 2")])


# --- judged lazily ---


def judged(candidates: list[Candidate], faults: dict[str, str]) -> tuple[Any, list[Candidate], list[str]]:
    """Returns what ships, all candidates, and the labels in the order in which they were judged."""
    asked: list[str] = []

    def judge(found: Candidate) -> Verdict:
        asked.append(found.label)
        return {"agreement": 0.9}, faults.get(found.label)

    chosen, found = ship(candidates, judge)
    return chosen, found, asked


def test_only_those_are_judged_that_would_ship() -> None:
    three = [candidate("int8", 1.0), candidate("fp16", 2.0), candidate("fp32", 4.0)]
    chosen, found, asked = judged(three, {"openvino int8": "drops"})
    assert asked == ["openvino int8", "openvino fp16"] and chosen.precision == "fp16"
    assert [c.fault for c in found] == ["drops", None, None]
    rows = [c.to_json(chosen=c is chosen) for c in found]
    assert [(row["precision"], row["chosen"], row["accuracy"]) for row in rows] == [
        ("int8", False, {"agreement": 0.9}), ("fp16", True, {"agreement": 0.9}), ("fp32", False, None),
    ]  # fmt: skip
    assert [row["p50_ms"] for row in rows] == pytest.approx([1.0, 2.0, 4.0])


def test_what_was_refused_before_is_never_judged() -> None:
    two = [Candidate("openvino", "int8", (), "no plan"), candidate("fp32", 4.0)]
    chosen, found, asked = judged(two, {})
    assert (
        asked == ["openvino fp32"] and chosen.precision == "fp32" and found[0].to_json(chosen=False)["p50_ms"] is None
    )


def test_nothing_ships_where_everything_is_refused() -> None:
    two = [candidate("int8", 1.0), candidate("fp32", 2.0)]
    with pytest.raises(EngineRefused, match=r"openvino int8: drops\n  openvino fp32: drops too"):
        judged(two, {"openvino int8": "drops", "openvino fp32": "drops too"})


def test_engines_timed_in_other_rounds_are_compared_by_their_medians_alone() -> None:
    """A slow engine is timed in few rounds: these pair with nothing."""
    slow = Candidate("openvino", "fp32", (4e-3,) * 6)
    assert choose([candidate("int8", 1.0), slow]).precision == "int8"


# --- in one sentence ---


def rows(chosen: str, **others: Any) -> list[dict[str, Any]]:
    made = {"int8": candidate("int8", 2.0), "fp32": candidate("fp32", 1.0), **others}
    return [c.to_json(chosen=name == chosen) for name, c in made.items()]


def test_a_refusal_says_what_why_and_what_is_had_instead() -> None:
    refused = Candidate("openvino", "int8", (), "it does not compute its graph")
    assert refusal(rows("fp32", int8=refused)) == (
        "openvino int8 was refused (it does not compute its graph): openvino fp32 ships, 1.0 ms"
    )
    assert refusal(rows("fp32")) == "openvino int8 takes 2.0 ms: openvino fp32 ships, 1.0 ms"
    assert refusal(rows("int8")) is None, "a slower float engine is nothing to tell"
