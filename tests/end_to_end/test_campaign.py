"""A minute of the campaign: some accidents of every kind, always the same ones."""

from __future__ import annotations

from pathlib import Path

import pytest

import campaign
from campaign.bed import Bed

SEED = 20
TRIALS = {"kills": 2, "races": 1, "flips": 3, "engines": 8, "files": 40, "checkpoints": 6}


@pytest.mark.slow
def test_nothing_wrong_is_served_whatever_happens(tmp_path: Path) -> None:
    bed = Bed(tmp_path)  # one for all parts, as its engines take most of the time
    counts = [campaign.run(part, bed, SEED, range(trials)) for part, trials in TRIALS.items()]
    assert not [fault for part in counts for fault in part.faults]
    assert {part.part: part.outcomes.total() for part in counts} == TRIALS
    assert tuple(TRIALS) == campaign.PARTS


def test_a_fault_is_counted_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The campaign itself can fail."""

    def trial(bed: Bed, rng: object) -> str:
        raise KeyError("paragraphs")

    monkeypatch.setattr(campaign.load("flips"), "trial", trial)
    counts = campaign.run("flips", Bed(tmp_path), 3, range(2))
    assert counts.faults == [f"flips, seed 3, trial {n}: KeyError: 'paragraphs'" for n in range(2)]
    assert counts.outcomes == {"fault": 2}
