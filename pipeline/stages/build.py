"""The stages in order: what `make engine` runs, callable from Python."""

from __future__ import annotations

import fcntl
import logging
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline import backends, distributed, families, progress, stages
from pipeline.artifacts import Workspace, commands, require_own
from pipeline.errors import BackendUnavailable, EngineRefused, InputError, near_names
from pipeline.judge.evaluation import read_json
from pipeline.lowering import selection
from pipeline.run import Run

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

log = logging.getLogger(__name__)


def build(
    recipe: Recipe,
    *,
    force: bool = False,
    first: str = stages.ORDER[0],
    announce: Callable[[str], None] = log.info,
) -> dict[str, Any]:
    """Returns the report (see exports/README.md) after running every stage that is not up to date.

    first: the stage to begin with; a machine without torch begins with "lower" or "engine" on a folder made elsewhere.
    The verdict is in the report; only faults raise. Raises PipelineError subclasses.
    """
    families.get(recipe.family)
    if first not in stages.ORDER:
        raise InputError(f"unknown stage {first!r}.{near_names(first, stages.ORDER)}")
    run = Run.of(recipe)
    here = can_run(run)
    asked = stages.order(recipe) if here else stages.WITHOUT_RUNTIME
    with locked(recipe), run.kept:
        names = [name for name in stages.ORDER[stages.ORDER.index(first) :] if name in asked]
        began = time.monotonic()
        for number, name in enumerate(names, 1):
            with progress.stage(name, number, len(names), began):
                stages.run(name, run, force=force, announce=announce)
        if not here:
            hand_over(run, announce)
        return read_json(run.workspace, "report.json")


def can_run(run: Run) -> bool:
    """Returns whether the backend runs here; False for one whose engines another machine can build from the QDQ graph.

    Raises BackendUnavailable for all others: minutes of work are not for a backend that cannot run.
    """
    if not run.backend.BUILT_ELSEWHERE or selection.is_asked(run.recipe):  # choosing a calibration method needs engines
        backends.choose(run.recipe.backend)
    return run.backend.unavailable_reason() is None


def hand_over(run: Run, announce: Callable[[str], None]) -> NoReturn:
    """Raises BackendUnavailable naming what is missing, the QDQ graph, and the command that builds it elsewhere.

    Raises EngineRefused where the backend's own rules forbid the graph.
    """
    recipe, backend = run.recipe, run.backend
    reason = f"backend {backend.NAME!r} cannot run here: {backend.unavailable_reason()}."
    if backends.missing_package("onnx", "") is not None:  # a machine for engines alone: nothing to say of graphs
        raise BackendUnavailable(reason)
    from pipeline.lint import lint, text

    graph = run.workspace.path(f"{backend.NAME}/model.qdq.onnx")
    report = lint(graph, backend.lint_target(recipe))
    for line in text.lines(report):
        announce(line)
    if report.errors:
        raise EngineRefused(f"{graph} breaks {len(report.errors)} rules of {backend.NAME}; see the lines above.")
    raise BackendUnavailable(
        f"{reason}\n{graph} is written and keeps the rules. On a machine that has what is missing, build it with\n"
        f"  {shlex.join(backend.command(graph, graph.parent, recipe))}\n"
        f"or copy {recipe.folder} there and run\n"
        f"  {commands.on_folder('engine', recipe.folder, recipe.recorded(), '--from', 'engine', python='python')}"
    )


def run_stage(name: str, recipe: Recipe, *, announce: Callable[[str], None] = log.info) -> dict[str, Any]:
    """Runs one stage on the artifacts that are there; returns its record.

    In a run of several processes rank 0 does so, and alone touches the folder; the others take their share of the work.
    """
    families.get(recipe.family)
    if distributed.world().rank:
        return stages.assist(name, recipe)
    run = Run.of(recipe)
    with locked(recipe), progress.stage(name), run.kept:
        return stages.run(name, run, announce=announce)


def read_report(recipe: Recipe) -> dict[str, Any]:
    """Returns the checked report.json of the folder."""
    return read_json(Workspace(recipe.folder, recipe), "report.json")


@contextmanager
def locked(recipe: Recipe) -> Iterator[None]:
    """Holds the artifact folder: two runs writing the same files would vouch for each other's halves.

    Also removes what a killed run left behind. Raises InputError while another process holds it, and for a folder
    that cannot be written, or that lies inside another artifact folder, whose files it would mix with its own.
    """
    require_own(recipe.folder)
    try:
        recipe.folder.mkdir(parents=True, exist_ok=True)
        lock = (recipe.folder / ".lock").open("w")
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{recipe.folder} cannot be written ({reason}); give another --output.") from error
    with lock as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another run is working in {recipe.folder}; wait for it, or give --output.") from error
        stages.remove_partial(recipe.folder)
        yield
