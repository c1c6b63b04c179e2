"""Which of int8, fp16 and fp32 ships: the fastest that is sound, and never a slower int8 engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.backends._tensorrt.choice import Candidate, choose, ship_fastest
from pipeline.errors import EngineRefused

NOISE = (0.98, 1.01, 1.0, 0.99, 1.02, 1.0, 1.01, 0.98, 1.0, 1.02, 0.99, 1.0)


def candidate(precision: str, ms: float, fault: str | None = None) -> Candidate:
    return Candidate(precision, tuple(1e-3 * ms * x for x in NOISE), fault)


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
    int8 = Candidate("int8", (0.9, 1.1, 0.9, 1.1, 0.9, 1.1, 0.9), None)
    fp16 = Candidate("fp16", (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0), None)
    assert int8.median < fp16.median
    assert choose([int8, fp16]) is fp16


def test_a_faster_one_with_a_fault_does_not_ship() -> None:
    found = choose([candidate("int8", 1.0, "miou drops by 5 %"), candidate("fp16", 2.0), candidate("fp32", 4.0)])
    assert found.precision == "fp16"


def test_without_a_sound_one_every_fault_is_named() -> None:
    with pytest.raises(EngineRefused, match=r"int8: drops(.|\n)*fp16: wrong at batch 2"):
        choose([candidate("int8", 1.0, "drops"), Candidate("fp16", (), "wrong at batch 2")])


def run(tmp_path: Path, ms: dict[str, float], faults: dict[str, str], unbuilt: tuple[str, ...] = ()) -> Any:
    def build(precision: str, folder: Path) -> None:
        if precision in unbuilt:
            raise EngineRefused("TensorRT builds no plan")
        folder.mkdir(parents=True)
        for file in ("model.plan", "plan.json"):
            (folder / file).write_text(precision)

    timed: list[set[str]] = []

    def time(engines: Any) -> Any:
        timed.append(set(engines))
        assert all(engine == name for name, engine in engines.items())
        return {name: candidate(name, ms[name]).seconds for name in engines}

    rows = ship_fastest(
        {name: lambda folder, name=name: build(name, folder) for name in ms},
        lambda folder: (folder / "model.plan").read_text(),  # type: ignore[arg-type, return-value]
        lambda name, engine: faults.get(name),
        time,
        tmp_path,
    )
    return rows, timed


def test_the_chosen_plan_is_kept_and_the_others_are_gone(tmp_path: Path) -> None:
    rows, _ = run(tmp_path, {"int8": 2.0, "fp16": 1.0, "fp32": 4.0}, {})
    assert [row["precision"] for row in rows if row["chosen"]] == ["fp16"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.plan", "plan.json"]
    assert (tmp_path / "model.plan").read_text() == (tmp_path / "plan.json").read_text() == "fp16"
    assert [round(row["p50_ms"], 6) for row in rows] == [2.0, 1.0, 4.0]


def test_what_may_not_ship_is_not_timed_and_says_why(tmp_path: Path) -> None:
    rows, timed = run(tmp_path, {"int8": 1.0, "fp16": 2.0, "fp32": 4.0}, {"int8": "drops"}, unbuilt=("fp32",))
    assert timed == [{"fp16"}]
    assert [(row["fault"], row["p50_ms"] is None) for row in rows] == [
        ("drops", True), (None, False), ("TensorRT builds no plan", True),
    ]  # fmt: skip


def test_nothing_ships_where_nothing_is_sound(tmp_path: Path) -> None:
    with pytest.raises(EngineRefused, match="no precision meets"):
        run(tmp_path, {"int8": 1.0, "fp16": 2.0}, {"int8": "drops", "fp16": "drops too"})
    assert not (tmp_path / "model.plan").exists()
