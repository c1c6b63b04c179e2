"""Twenty minutes of accidents at random: kills, races, flipped bytes, faulty engines, damaged files, odd checkpoints.

    python -m campaign [--seed N] [--minutes M] [--only PART …] [--record results/campaign.json]

Each part is one module with the same names:

    TRIALS                    how many trials a whole campaign makes
    def trial(bed, rng)       one accident; returns what came of it in a few words, raises AssertionError for a fault

A trial's random generator is made of the campaign's seed, the part and the trial's number, which are printed with every
fault: `--only PART --trial K` does that one again. `tests/end_to_end/test_campaign.py` runs a minute of it.
"""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from zlib import crc32

import numpy as np

PARTS = ("kills", "races", "flips", "engines", "files", "checkpoints")


@dataclass
class Counts:
    """What came of the trials of one part."""

    part: str
    trials: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "seconds": round(self.seconds, 1), "outcomes": dict(self.outcomes.most_common())}


def load(part: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{part}")


def generator(seed: int, part: str, trial: int) -> np.random.Generator:
    return np.random.default_rng([seed, crc32(part.encode()), trial])


def run(
    part: str,
    bed: Any,
    seed: int,
    trials: range,
    *,
    seconds: float = float("inf"),
    say: Callable[[str], None] = lambda line: None,
) -> Counts:
    """Returns what came of some trials of a part; none begins after so many seconds."""
    module, counts, start = load(part), Counts(part), time.perf_counter()
    for number in trials:
        if time.perf_counter() - start > seconds:
            break
        counts.trials += 1
        try:
            counts.outcomes[module.trial(bed, generator(seed, part, number))] += 1
        except Exception as error:  # whatever a trial did not expect is what is looked for
            fault = f"{part}, seed {seed}, trial {number}: {type(error).__name__}: {error}"
            counts.outcomes["fault"] += 1
            counts.faults.append(fault)
            say(f"FAULT {fault}")
    counts.seconds = time.perf_counter() - start
    return counts
