"""Ways to run a model, ours and others', for `bench` and `scaling`: one file each, found by its name.

    LABEL                                          what the table calls it
    PEER                                           whether it is others' work: a fault of it is a row of the table
    def unavailable_reason()                       -> None, or one sentence with the one thing to install
    def make(workspace, area, threads)             -> a callable from a dict of arrays to a dict of arrays
    def load(workspace, area, threads)             -> the same again, in any process, from what `make` left in `area`

A method builds itself from the artifacts in `workspace`; what it writes goes under `area`. `bench` and `scaling` check
its outputs against the float model's in the same run that times it. A peer starts from the checkpoint's own float
graph, without our rewrites, and calibrates on the samples that our engine was calibrated on (`_calibration_data`).
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline import backends
from pipeline.errors import BackendUnavailable, InputError, PipelineError, near_names
from pipeline.stages import engine as engine_stage

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace

Runner = Callable[[Mapping[str, Any]], Mapping[str, Any]]
Result = TypeVar("Result")
log = logging.getLogger(__name__)

BASE = "float_onnxruntime"  # what every speed-up is over


def names() -> list[str]:
    """Returns every method, in alphabetical order."""
    return sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name[0] != "_")


def get(name: str) -> Any:
    """Returns the module of a method. Raises InputError for an unknown name."""
    if name not in names():
        raise InputError(f"unknown method {name!r}.{near_names(name, names())}")
    return importlib.import_module(f"pipeline.bench.methods.{name}")


def with_base(wanted: Sequence[str]) -> list[str]:
    """Returns the methods to time, each once, BASE first.

    Raises InputError for an unknown name, BackendUnavailable where BASE cannot run: there would be no speed-up.
    """
    found = list(dict.fromkeys((BASE, *wanted)))
    base, *_ = [get(name) for name in found]
    missing = base.unavailable_reason()
    if missing is not None:
        raise BackendUnavailable(f"{BASE}, which all others are compared with, cannot run here: {missing}")
    return found


def attempt(method: Any, work: Callable[[], Result]) -> tuple[Result | None, str | None]:
    """Returns (what `work` gives, None), or (None, why not) for a method that cannot run here and for a peer's fault.

    Ours and the float ones raise: their faults are this project's.
    """
    missing: str | None = method.unavailable_reason()
    if missing is not None:
        return None, missing
    try:
        return work(), None
    except Exception as error:  # whatever a package of others raises
        if not method.PEER:
            raise
        log.warning("%s is left out: %s", method.LABEL, reason(error))
        log.debug("%s", method.LABEL, exc_info=True)
        return None, reason(error)


def prepare(runner: Runner, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the outputs of the first call on `feeds`; later calls with such shapes are as fast as they get."""
    if hasattr(runner, "prepare"):
        runner.prepare({name: value.shape for name, value in feeds.items()})
    return runner(feeds)


def reason(error: Exception) -> str:
    """Returns the first line of what a fault says; a package's own fault begins with its class."""
    said = (str(error).strip().splitlines() or ["no message"])[0]
    return said if isinstance(error, PipelineError) else f"{type(error).__name__}: {said}"


def built_engine(workspace: Workspace, backend: str, threads: int) -> Runner:
    """Returns the engine of one backend that `engine` built. Raises ArtifactError where there is none."""
    workspace.path(f"{backend}/{engine_stage.RECORD}")
    return backends.load_checked(workspace, backend, threads)
