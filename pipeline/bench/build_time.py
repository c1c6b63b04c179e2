"""How long a whole `make engine` takes, beside NNCF's quantization and compilation of the same model.

Every run is a process of its own in an empty folder, in turns, its imports counted. Ours goes from the checkpoint to
the verified engine; NNCF's starts from the float ONNX that ours exported, ends with the first answer of its engine, and
verifies nothing. So the stages of ours are listed, those that do what NNCF does are added up, and what the libraries
alone take of it is measured beside them (`pipeline.bench.build_floor`).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.artifacts import Workspace
from pipeline.bench import build_floor, methods, published, results, timing
from pipeline.bench.methods import _calibration_data
from pipeline.bench.methods.nncf import METHODS
from pipeline.errors import InputError, PipelineError
from pipeline.judge.evaluation import read_arrays
from pipeline.measure import machine
from pipeline.measure.process import call
from pipeline.recipe import Recipe

SAME_WORK = ("calibrate", "lower", "engine")  # of ours: from a float graph to a compiled int8 engine
PEER = METHODS["nncf_openvino"]
PEER_SAMPLES = (8, 64)


def recipe_of(model: str, shape: str, output: Path | None, settings: dict[str, Any]) -> Recipe:
    """Returns the recipe of a random checkpoint of a published shape, with as many samples as the peer gets at most."""
    return published.recipe(shape, output, settings, model, max(PEER_SAMPLES))


def run(
    recipe: Recipe,
    *,
    rounds: int = 3,
    record: Path | None = None,
    command: str = "",
    announce: Callable[[str], None],
) -> dict[str, Any]:
    """Returns {ours: {seconds, stages}, floor: [{work, seconds, cpu_seconds}], peers: [{samples, seconds}], …}.

    All seconds are lists, a value a round.

    The recipe's folder is not touched. Raises PipelineError where a build ends by a fault; a missed budget is none, as
    random weights have no accuracy.
    """
    reason = PEER.unavailable_reason()
    ours: list[dict[str, Any]] = []
    floor: list[list[dict[str, Any]]] = []
    peers: dict[int, list[float]] = {samples: [] for samples in PEER_SAMPLES}
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="bench-build-") as scratch:
            folder = Path(scratch) / recipe.folder.name
            announce(f"bench-build: round {number + 1} of {rounds}, make engine")
            ours.append(build(recipe, folder))
            announce(f"bench-build: round {number + 1} of {rounds}, the libraries' part alone")
            floor.append(build_floor.measure(recipe.model_copy(update={"folder": folder})))
            for samples in () if reason else PEER_SAMPLES:
                announce(f"bench-build: round {number + 1} of {rounds}, NNCF with {samples} samples")
                peers[samples].append(peer(folder, Path(scratch) / f"nncf-{samples}", samples))
    threads = recipe.verification.threads or machine.usable_cores()
    document = results.document(
        command,
        threads,
        packages=results.WITH_PEERS,
        model=recipe.model,
        samples=recipe.calibration.samples,
        rounds=rounds,
        ours={
            "seconds": [row["seconds"] for row in ours],
            "stages": {name: [row["stages"][name] for row in ours] for name in ours[0]["stages"]},
            "same_work": [sum(row["stages"][name] for name in SAME_WORK) for row in ours],
        },
        floor=build_floor.merged(floor),
        peers=[{"samples": n, "seconds": found} for n, found in peers.items() if found],
        skipped=reason,
    )
    results.write(document, record)
    return document


def build(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Returns {seconds, stages: {name: seconds}} of `python -m pipeline engine` in an empty folder."""
    settings = recipe.model_dump(mode="json", exclude={"folder", "family"})
    file = folder.with_suffix(".json")
    file.write_text(json.dumps(settings), encoding="utf-8")
    options = [recipe.family, "--recipe", str(file), "--output", str(folder)]
    command = [sys.executable, "-m", "pipeline", "engine", *options]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 -- our own command line
    seconds = time.perf_counter() - start
    if done.returncode not in (0, 1):
        raise PipelineError(f"the build that was to be timed ended with code {done.returncode}: {done.stderr[-500:]}")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    stages: dict[str, float] = {}
    for row in report["stages"]:  # a stage of several backends together
        name = row["name"].partition("/")[0]
        stages[name] = stages.get(name, 0.0) + row["seconds"]
    return {"seconds": seconds, "stages": stages}


def peer(folder: Path, area: Path, samples: int) -> float:
    """Returns the seconds of a process that quantizes and compiles the float ONNX of `folder` with NNCF.

    Preparing the samples is not among them.
    """
    import numpy as np

    workspace = Workspace(folder)
    given = {name: x[:samples] for name, x in _calibration_data.arrays(workspace).items()}
    if _calibration_data.count(given) < samples:
        raise InputError(f"{samples} calibration samples are needed, {_calibration_data.count(given)} are there.")
    area.mkdir()
    np.savez(area / "samples.npz", allow_pickle=False, **given)
    start = time.perf_counter()
    call("NNCF's process", f"{__name__}:quantize_and_compile", str(folder), str(area))
    seconds = time.perf_counter() - start
    shutil.rmtree(area)
    return seconds


def quantize_and_compile(folder: str, scratch: str) -> None:
    """Quantizes, saves, loads, compiles for single samples and answers once: what a user of NNCF runs."""
    area, workspace = Path(scratch), Workspace(Path(folder))
    samples: dict[str, Any] = read_arrays(area / "samples.npz")
    PEER.quantize(methods.original(workspace), area, samples)
    engine = PEER.load(workspace, area, machine.usable_cores())
    timing.prepare(engine, {name: x[:1] for name, x in samples.items()})
