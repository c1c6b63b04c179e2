"""Ways to run a model, ours and others', for `bench`: one file each, found by its name.

    LABEL                                          what the table calls it
    PEER                                           whether it is others' work: a fault of it is a row of the table
    def unavailable_reason()                       -> None, or one sentence with the one thing to install
    def make(workspace, area, threads)             -> a callable from a dict of arrays to a dict of arrays

A method builds itself from the artifacts in `workspace`; what it writes goes under `area`. `bench` checks its outputs
against the float reference in the same run that times it. A peer starts from the checkpoint's own float graph, without
our rewrites, and calibrates on the samples that our engine was calibrated on (`_calibration_data`).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import backends
from pipeline.stages import engine as engine_stage

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace

Runner = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def names() -> list[str]:
    """Returns every method, in alphabetical order."""
    return sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name[0] != "_")


def get(name: str) -> Any:
    """Returns the module of a method."""
    return importlib.import_module(f"pipeline.methods.{name}")


def built_engine(workspace: Workspace, backend: str, threads: int) -> Runner:
    """Returns the engine of one backend that `engine` built. Raises ArtifactError where there is none."""
    workspace.path(f"{backend}/{engine_stage.RECORD}")
    return backends.load_checked(workspace, backend, threads)
