"""The stages, in the order in which data flows, and the answer to "is it up to date?".

Each stage is one module with the same names:

    NAME                                  also the command-line verb
    def inputs(run)                       -> everything its result depends on, as a flat dict
    def outputs(run)                      -> the files it writes (relative names)
    def make(run, area)                   reads artifacts from the run's workspace, writes files under `area`

A stage that several processes can share (see `pipeline.distributed`) has one more:

    def assist(run)                       -> None; computes and hands over the share of a rank other than 0

A stage never calls another, and nothing but this package imports one. What `inputs` returns is stored in the manifest;
a stage is skipped while it stays equal and every output is intact.
"""

from __future__ import annotations

import importlib
import logging
import shutil
import time
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pipeline import distributed
from pipeline.backends import RECORD
from pipeline.backends._defaults import AUTO
from pipeline.errors import ArtifactError, InputError
from pipeline.files import digest_of
from pipeline.lowering import selection
from pipeline.measure.memory import PeakMemory
from pipeline.run import Run

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.recipe import Recipe

log = logging.getLogger(__name__)

ORDER = ("quantize", "calibrate", "export", "select", "lower", "engine", "verify")
WITHOUT_RUNTIME = ("quantize", "calibrate", "export", "lower")  # what the QDQ graph needs, and no backend's packages
READERS = ("quantize", "calibrate", "export", "select")  # of the checkpoint and the data
# the last stage that needs what a run keeps under a name
LAST = {"model": "export", "calibration": "calibrate", "evaluation": "export", "selection": "select"}
PER_BACKEND = ("select", "lower", "engine", "verify")
CHOICE = "engine/auto"  # the manifest's key of an engine that was chosen among backends


def order(recipe: Recipe) -> tuple[str, ...]:
    """Returns the stages that a recipe needs: `select` only where the calibration method is to be chosen."""
    return tuple(name for name in ORDER if name != "select" or selection.is_asked(recipe))


def load(name: str) -> ModuleType:
    """Returns the module of one stage; imported late, because half of them need torch."""
    return importlib.import_module(f"pipeline.stages.{name}")


def record_name(name: str, recipe: Recipe) -> str:
    """Returns the manifest's key of a stage: engines of several backends live in one folder, side by side."""
    return f"{name}/{recipe.backend}" if name in PER_BACKEND else name


def runs_for(name: str, run: Run) -> list[Run]:
    """Returns what a stage is given, "auto" and an image size that is the checkpoint's made definite.

    The QDQ graph is written for every backend that is tried; the engine stage takes "auto" where there is a choice, and
    its choice is what is verified. Raises ArtifactError for verify before there is one, BackendUnavailable for a stage
    that needs a runtime which is not there.
    """
    run = run.with_recipe(_sized(name, run.recipe, run.workspace))
    if name not in PER_BACKEND or (name == "lower" and run.recipe.backend != AUTO):
        return [run]
    first, *others = run.tried
    if run.recipe.backend != AUTO:
        return [run]
    if name in ("select", "lower") or first.ON_GPU:
        return [run.on(backend.NAME) for backend in (first, *others)]
    return [run if name == "engine" else run.on(chosen_backend(run.workspace))]


def _sized(name: str, recipe: Recipe, workspace: Workspace) -> Recipe:
    """Returns the recipe with a definite image size where it names none: the checkpoint's, which later stages take over
    from quantize's record."""
    if recipe.shapes.image_size is not None:
        return recipe
    if name == ORDER[0]:
        from pipeline.model import loading

        return loading.sized(recipe)
    taken = workspace.manifest.stages.get(ORDER[0], {}).get("inputs", {}).get("shapes", {})
    return recipe.with_image_size(taken.get("image_size"))


def chosen_backend(workspace: Workspace) -> str:
    """Returns the backend that the engine stage chose for "auto". Raises ArtifactError before it did."""
    record = workspace.manifest.stages.get(CHOICE, {"files": []})
    found: list[str] = [name.partition("/")[0] for name in record["files"] if name.endswith(f"/{RECORD}")]
    if not found:
        raise ArtifactError(
            f"{workspace.folder} has no engine that BACKEND=auto chose; {workspace.again()}, or give the backend."
        )
    return found[0]


def why_stale(name: str, given: Recipe | Run) -> list[str]:
    """Returns the reasons why a stage must run, none when its result is up to date."""
    stage = load(name)
    try:
        runs = runs_for(name, Run.of(given))
    except ArtifactError:  # nothing was chosen yet
        return ["it never ran"]
    several = len(runs) > 1
    return [
        f"{each.recipe.backend}: {reason}" if several else reason
        for each in runs
        for reason in _reasons(stage, each, stage.inputs(each))
    ]


def _reasons(stage: ModuleType, run: Run, inputs: dict[str, Any]) -> list[str]:
    manifest, key = run.workspace.manifest, record_name(stage.NAME, run.recipe)
    record = manifest.stages.get(key)
    if record is None:
        return ["it never ran"]
    before, outputs = record["inputs"], stage.outputs(run)
    reasons = [
        f"{name} changed: {_short(before.get(name))} -> {_short(inputs.get(name))}"
        for name in sorted({*before, *inputs})
        if before.get(name) != inputs.get(name)
    ]
    made = set(record["files"])
    reasons += [f"{name} is not among what it made" for name in outputs if name not in made]
    reasons += [f"{name} is missing or altered" for name in sorted(made) if not run.workspace.intact(name)]
    makers = {name: manifest.files[name]["stage"] for name in sorted(made) if name in manifest.files}
    reasons += [f"{name} was made again by {maker}" for name, maker in makers.items() if maker != key]
    return reasons


def run(
    name: str, given: Recipe | Run, *, force: bool = False, announce: Callable[[str], None] = log.info
) -> dict[str, Any]:
    """Runs one stage unless it is up to date; returns {name, seconds, peak_rss_bytes, skipped}, of all its backends.

    given: a run goes from stage to stage, so that the last one can tell which of them ran.
    """
    given = Run.of(given)
    for kept, last in LAST.items():
        if ORDER.index(name) > ORDER.index(last):
            given.kept.drop(kept)
    runs = runs_for(name, given)
    records = [_run(name, each, force, announce, len(runs) > 1) for each in runs]
    return {
        "name": name,
        "seconds": sum(record["seconds"] for record in records),
        "peak_rss_bytes": max(record["peak_rss_bytes"] for record in records),
        "skipped": all(record["skipped"] for record in records),
    }


def run_before(name: str, given: Run, *, announce: Callable[[str], None] = log.info) -> None:
    """Runs every stage before `name` that is not up to date."""
    for earlier in takewhile(name.__ne__, order(given.recipe)):
        run(earlier, given, announce=announce)


def _run(name: str, run: Run, force: bool, announce: Callable[[str], None], several: bool) -> dict[str, Any]:
    """Runs one stage for a definite backend, or the engine stage for "auto"."""
    workspace, key = run.workspace, record_name(name, run.recipe)
    stage, label = load(name), f"{name} for {run.recipe.backend}" if several else name
    require_checkpoint_files(name, workspace)
    inputs = stage.inputs(run)
    reasons = ["asked for"] if force else _reasons(stage, run, inputs)
    distributed.leader_says(_fingerprint(inputs) if reasons else 0)
    if not reasons:
        announce(f"{label}: up to date")
        return {"seconds": 0.0, "peak_rss_bytes": 0, "skipped": True}
    announce(f"{label}: running ({reasons[0]}{f', and {len(reasons) - 1} more' if len(reasons) > 1 else ''})")
    facts: dict[str, Any] = {}
    start = time.perf_counter()
    with PeakMemory() as memory, workspace.staging(key, inputs, facts) as area:
        stage.make(run, area)
        facts["recipe"] = {**run.recipe.recorded(), **({} if name in READERS else _read_before(workspace))}
        facts.update(seconds=round(time.perf_counter() - start, 3), peak_rss_bytes=memory.peak())
    workspace.ran.add(key)
    return {"skipped": False, **{k: facts[k] for k in ("seconds", "peak_rss_bytes")}}


def _read_before(workspace: Workspace) -> dict[str, Any]:
    """Returns what the manifest says of checkpoint and data: a stage that reads neither knows no better."""
    recorded = workspace.manifest.recipe
    return {name: recorded[name] for name in ("checkpoint", "data") if name in recorded}


def assist(name: str, given: Recipe | Run) -> dict[str, Any]:
    """Runs this rank's share of one stage if rank 0 says that it must run; returns its record, without figures.

    Raises InputError where the stage depends on something else here than on rank 0: another file, another version.
    """
    stage = load(name)
    (run,) = runs_for(name, Run.of(given))  # what ranks share is no stage of several backends
    require_checkpoint_files(name, run.workspace)
    expected = distributed.leader_says(0)
    if expected and expected != _fingerprint(stage.inputs(run)):
        raise InputError(
            f"{name}: rank {distributed.world().rank} sees other data, files, code or versions than rank 0; "
            f"make {run.recipe.folder}, the data and the environment the same for all."
        )
    if expected:
        stage.assist(run)
    return {"name": name, "seconds": 0.0, "peak_rss_bytes": 0, "skipped": not expected}


def require_checkpoint_files(name: str, workspace: Workspace) -> None:
    """Raises ArtifactError where what encodes samples and reads outputs is not as `quantize`, the first stage, left it.

    Every other stage relies on it, directly or in what it is given.
    """
    if name != ORDER[0]:
        workspace.paths_of(ORDER[0])


def _fingerprint(inputs: dict[str, Any]) -> int:
    """Returns a number > 0 below 2⁶³ that stands for what a stage depends on."""
    return 1 + (int(digest_of(inputs), 16) >> 2)


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "…"


def remove_partial(folder: Path) -> None:
    """Removes staging folders and files that a killed run left behind."""
    for path in folder.glob(".*.partial"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
