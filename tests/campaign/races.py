"""Two writers and a reader in one folder: the reader gets an engine that was verified, or is told why not."""

from __future__ import annotations

import shutil
from collections import Counter

import numpy as np

from campaign.bed import NEW, OLD, Bed, write_in_turns
from pipeline import stages
from pipeline.errors import ArtifactError

TRIALS = 10


def trial(bed: Bed, rng: np.random.Generator) -> str:
    folder = bed.copy("bert")
    recipes = [bed.recipe("bert", folder, **settings) for settings in (OLD, NEW)]
    writers = [bed.child(write_in_turns, recipe, int(rng.integers(2, 6))) for recipe in recipes]
    read: Counter[str] = Counter()
    while any(writer.is_alive() for writer in writers):
        try:
            read[bed.serves(folder)] += 1
        except ArtifactError as error:
            assert "run `" in str(error), error
            read["no engine, and what to run"] += 1
    assert [writer.exitcode for writer in writers] == [0, 0], [writer.exitcode for writer in writers]
    assert sum(read.values())
    bed.serves(folder)
    stale = [sum(bool(stages.why_stale(name, recipe)) for name in ("lower", "engine", "verify")) for recipe in recipes]
    assert 0 in stale, stale  # whoever was last finds its own work
    shutil.rmtree(folder)
    return "every reading was of a verified engine, or refused"
