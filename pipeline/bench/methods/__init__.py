"""Ways to run a model, ours and others', for `bench`, `scaling` and `compare`; each file here is found by its name.

A file subclasses `Method` and lists its instances by name, the variants of one method as its parameters:

    METHODS = {"mine": Mine("mine, OpenVINO", "openvino"), "mine_7_bits": Mine("mine, 7 bits", "openvino", bits=7)}

A method is built from the artifacts of a folder, and checked against the float model in the same run that times it. A
quantizer of others is a `_peers.Peer`: it starts from the checkpoint's own float graph, without our rewrites, and
calibrates on the samples that our engine was calibrated on.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from pipeline import backends
from pipeline.errors import BackendUnavailable, InputError, PipelineError, in_short, near_names
from pipeline.judge.reference import float_graphs
from pipeline.measure.process import ProcessFault

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.bench.timing import Runner

Result = TypeVar("Result")
log = logging.getLogger(__name__)

BASE = "float_onnxruntime"  # what every speed-up is over


@dataclass(frozen=True)
class Method:
    """One way to run a model. label: what tables call it; backend: whose runtime it needs."""

    label: str
    backend: str
    peer: ClassVar[bool] = False  # others' work: a fault of it is a row of the table

    def unavailable_reason(self) -> str | None:
        """Returns one sentence with the one thing to install, None where the method can run."""
        return backends.get(self.backend).unavailable_reason()

    def usual(self) -> bool:
        """Returns whether `bench` times the method where none is named."""
        return True

    def build(self, workspace: Workspace, area: Path) -> None:
        """Writes what `load` reads into `area`; by default nothing."""

    def load(self, workspace: Workspace, area: Path, threads: int) -> Runner:
        """Returns a callable from a dict of arrays to a dict of arrays, by default the engine in `area`.

        It may be called in another process than `build`.
        """
        return backends.get(self.backend).load(area, threads)

    def make(self, workspace: Workspace, area: Path, threads: int) -> Runner:
        """Returns the callable, built first."""
        self.build(workspace, area)
        return self.load(workspace, area, threads)


def original(workspace: Workspace) -> Path:
    """Returns the float graph of the checkpoint as it is."""
    return float_graphs(workspace)["float_ort"]


def rewritten(workspace: Workspace) -> Path:
    """Returns the float graph after the family's exact rewrites: how much of the speed is not int8."""
    return workspace.path("model.onnx")


@cache
def found() -> dict[str, Method]:
    """Returns every method by its name, in alphabetical order."""
    files = [m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name[0] != "_"]
    lists = [importlib.import_module(f"pipeline.bench.methods.{name}").METHODS for name in files]
    return dict(sorted(item for methods in lists for item in methods.items()))


def usual() -> list[str]:
    """Returns the names of those that `bench` times where none is named: a CPU's, and a GPU's where there is one."""
    return [name for name, method in found().items() if method.usual()]


def get(name: str) -> Method:
    """Returns a method. Raises InputError for an unknown name."""
    if name not in found():
        raise InputError(f"unknown method {name!r}.{near_names(name, found())}")
    return found()[name]


def with_base(wanted: Sequence[str]) -> dict[str, Method]:
    """Returns the methods to time by name, each once, BASE first.

    Raises InputError for an unknown name, BackendUnavailable where BASE cannot run: there would be no speed-up.
    """
    chosen = {name: get(name) for name in (BASE, *wanted)}
    missing = chosen[BASE].unavailable_reason()
    if missing is not None:
        raise BackendUnavailable(f"{BASE}, which all others are compared with, cannot run here: {missing}")
    return chosen


def attempt(method: Method, work: Callable[[], Result]) -> tuple[Result | None, str | None]:
    """Returns (what `work` gives, None), or (None, why not) for a method that cannot run here and for a peer's fault.

    Ours and the float ones raise: their faults are this project's.
    """
    missing = method.unavailable_reason()
    if missing is not None:
        return None, missing
    try:
        return work(), None
    except Exception as error:  # whatever a package of others raises
        if not method.peer:
            raise
        log.warning("%s is left out: %s", method.label, reason(error))
        log.debug("%s", method.label, exc_info=True)
        return None, reason(error)


def reason(error: Exception) -> str:
    """Returns the first line of what a fault says; a package's own fault begins with its class."""
    if isinstance(error, PipelineError | ProcessFault):
        return str(error).splitlines()[0]
    return f"{type(error).__name__}: {in_short(error)}"
