"""A build is killed: the folder serves the old engine or the new one, or says what to run; and that command works."""

from __future__ import annotations

import shutil
import signal

import numpy as np

from campaign.bed import BACKEND, NEW, Bed, rebuild
from pipeline import stages
from pipeline.errors import ArtifactError
from pipeline.stages.build import build

TRIALS = 30
LONGEST = {"export": 15.0}  # seconds that a stage of a tiny model may take; the others take less than one
CALLS = 160  # on files, from `lower` to the end; a kill beyond the last lets the build end


def trial(bed: Bed, rng: np.random.Generator) -> str:
    folder = bed.copy("bert")
    recipe = bed.recipe("bert", folder, **NEW)
    stage = str(rng.choice([name for name in stages.ORDER if name != "select"]))
    if rng.random() < 0.5:
        child = bed.child(rebuild, recipe, stage, stage, rng.uniform(0, LONGEST.get(stage, 0.8)))
    else:
        child = bed.child(rebuild, recipe, "lower", "", 0.0, int(rng.integers(CALLS)))
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL), f"the build ended with {child.exitcode}"
    try:
        left = {"bert": "the old engine", "bert new": "the new engine"}[bed.serves(folder)]
    except ArtifactError as error:
        assert "run `" in str(error), error
        left = "no engine, and what to run"
    report = build(recipe)
    assert report["verdict"] == "pass", report["reasons"]
    served = bed.serves(folder)
    assert served == "bert new", f"{stage}: the folder serves {served} after it was built again"
    assert not list(folder.glob(".*.partial")) and (folder / BACKEND / "report.json").exists()
    shutil.rmtree(folder)
    return f"{left}; built again" if child.exitcode else "ended before the kill"
