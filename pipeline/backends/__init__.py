"""The engines a QDQ graph can become. One backend is one file here, found by its name; none needs torch.

A backend's module has every name of the protocol `Backend`; those that most answer alike come from `_defaults`.
"""

from __future__ import annotations

import errno
import importlib
import json
import pkgutil
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from pipeline.backends._defaults import AUTO
from pipeline.errors import ArtifactError, BackendUnavailable, EngineRefused, InputError, PipelineError, near_names
from pipeline.measure import processor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.artifacts import Workspace
    from pipeline.backends._policy import Policy
    from pipeline.recipe import Recipe

    Array = NDArray[np.generic]

RECORD = "engine.json"  # beside an engine: what it was built from, and how it compares


class Engine(Protocol):
    """A loaded engine: dict of arrays in, dict of arrays out."""

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]: ...

    def prepare(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Makes later calls with exactly these input shapes as fast as the backend can."""

    def precision_report(self, feeds: Mapping[str, Array]) -> dict[str, Any]:
        """Returns {int8_ops, float_ops, int8_flop_share, layers}, from one profiled run on `feeds`."""


class Backend(Protocol):
    """The names that a module of this package has. NAME, PLACEMENT, FILES and dialect() need no runtime."""

    NAME: str  # on the command line, as its file is called
    RANK: int  # `auto` takes the available one of lowest rank
    PLACEMENT: Policy  # which quantizers are on
    ON_GPU: bool  # its engines are compared with float ONNX Runtime there, where that has CUDA
    OWN_FLOAT_GRAPHS: bool  # it wants the float model in a dialect of its own
    BUILT_ELSEWHERE: bool  # a tool of the runtime's own builds its engines on another machine

    @property
    def FILES(self) -> tuple[str, ...]:
        """What build() writes, relative to <backend>/."""

    def dialect(self, recipe: Recipe) -> tuple[str, ...]:
        """Returns the names of the graph passes, in order; of a backend for CPUs by `_defaults.on_a_cpu`."""

    def unavailable_reason(self) -> str | None:
        """Returns one sentence with the one thing to install, None where the backend can run."""

    def version(self) -> dict[str, str]:
        """Returns {package: version}, part of what makes an engine stale."""

    def settings(self, recipe: Recipe) -> dict[str, Any]:
        """Returns what of the recipe build() reads that the graph does not show, as a flat dict."""

    def precisions(self, recipe: Recipe) -> tuple[str, ...]:
        """Returns what a run builds, some of "int8", "fp16" and "fp32"."""

    def build(self, graph: Path, area: Path, recipe: Recipe, precision: str = "int8") -> None:
        """Writes FILES into `area`, from the QDQ graph for int8 and from the rewritten float model for the others.

        With OWN_FLOAT_GRAPHS the graph is the QDQ graph always, beside which model.<precision>.onnx lies.
        """

    def float_graph(self, model_onnx: Path, recipe: Recipe, precision: str) -> bytes:
        """Returns the graph that a float engine is built from; only with OWN_FLOAT_GRAPHS."""

    def load(self, folder: Path, threads: int | None) -> Engine:
        """Returns the engine of `folder`."""

    def command(self, qdq_onnx: Path, area: Path, recipe: Recipe) -> list[str]:
        """Returns the command line, as arguments, that builds the engine elsewhere; only with BUILT_ELSEWHERE."""

    def lint_target(self, recipe: Recipe) -> str:
        """Returns the target to lint the QDQ graph for."""


def files() -> list[str]:
    """Returns every backend's name, found without importing any."""
    return sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if not m.name.startswith("_"))


def names() -> list[str]:
    """Returns every backend's name, the one that `auto` prefers first."""
    return sorted(files(), key=lambda name: (get(name).RANK, name))


def usable() -> list[str]:
    """Returns the backends that can run here, the one that `auto` prefers first."""
    return [name for name in names() if get(name).unavailable_reason() is None]


def on_gpu(name: str) -> bool:
    """Returns whether a backend's engines run on a GPU."""
    return get(name).ON_GPU


def to_try(asked: str) -> list[str]:
    """Returns the backends whose engines a run builds: `asked` itself, or for "auto" the one for a GPU where that can
    run, else every one that can run on this CPU, the preferred one first.

    Raises as `choose`.
    """
    first = choose(asked)
    return [first] if asked != AUTO or on_gpu(first) else [name for name in usable() if not on_gpu(name)]


def own_float_graphs(backend: Backend, recipe: Recipe) -> list[str]:
    """Returns the precisions of which a backend wants the float model in a dialect of its own."""
    return [p for p in backend.precisions(recipe) if p != "int8"] if backend.OWN_FLOAT_GRAPHS else []


def get(name: str) -> Backend:
    """Returns a backend's module. Raises InputError for an unknown name."""
    try:
        return cast(Backend, importlib.import_module(f"{__name__}.{name}"))
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
    raise InputError(f"unknown backend {name!r}.{near_names(name, [AUTO, *names()])}")


def name_of(asked: str) -> str:
    """Returns the backend to lower for: `asked`, which need not run here, or for "auto" the first that can.

    Raises InputError for an unknown name.
    """
    return choose(AUTO) if asked == AUTO else get(asked).NAME


def choose(asked: str) -> str:
    """Returns the backend to use: `asked` itself, or for "auto" the first available one.

    Raises InputError for an unknown name, and BackendUnavailable, with what to install, for one that cannot
    run here.
    """
    if asked != AUTO:
        reason = get(asked).unavailable_reason()
        if reason is not None:
            raise BackendUnavailable(f"backend {asked!r} cannot run here: {reason}")
        return asked
    reasons = {name: get(name).unavailable_reason() for name in names()}
    usable = [name for name, reason in reasons.items() if reason is None]
    if not usable:
        listed = "\n".join(f"  {name}: {reason}" for name, reason in reasons.items())
        raise BackendUnavailable(f"no backend can run here:\n{listed}")
    return usable[0]


def build(backend: Backend, graph: Path, area: Path, recipe: Recipe, precision: str = "int8") -> None:
    """Calls the backend's build; a runtime's own exception becomes a full disk's OSError or EngineRefused."""
    try:
        backend.build(graph, area, recipe, precision)
    except (PipelineError, OSError):
        raise
    except Exception as error:  # runtimes raise what they like, and none has a class for a full disk
        if shutil.disk_usage(graph.parent).free < graph.stat().st_size:
            raise OSError(errno.ENOSPC, "no space left for the engine", str(area)) from error
        raise EngineRefused(f"{backend.NAME} builds no engine from {graph}: {said(error)}") from error


def said(error: Exception) -> str:
    """Returns the beginning of what a runtime's exception says."""
    return str(error).strip()[:500] or type(error).__name__


def load_checked(workspace: Workspace, name: str, threads: int | None) -> Engine:
    """Returns the engine that `engine` built for one backend, after checking the digest of every file of it.

    Raises ArtifactError for a file that is missing or altered, and for an engine of another class of processors whose
    sums may saturate on this one.
    """
    backend = get(name)
    for file in backend.FILES:
        workspace.path(f"{name}/{file}")
    if not on_gpu(name):
        processor.admit(json.loads(workspace.path(f"{name}/{RECORD}").read_text(encoding="utf-8")), workspace)
    try:
        return backend.load(workspace.folder / name, threads)
    except ArtifactError as error:
        again = workspace.again(file=f"{name}/{backend.FILES[0]}")
        raise ArtifactError(f"{str(error).rstrip('.')}; {again}.") from error


def missing_package(package: str, install: str) -> str | None:
    """Returns why `package` cannot be imported with the command that installs it, None when it can."""
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name == package:
            return f"the package {package!r} is not installed: {install}"
        return f"the package {package!r} needs {error.name!r}: {install}"
    except (ImportError, OSError) as error:
        return f"the package {package!r} does not load ({error}): {install}"
    return None


Value = TypeVar("Value")


def ordered_feeds(feeds: Mapping[str, Value], expected: tuple[str, ...]) -> dict[str, Value]:
    """Returns `feeds` (arrays, or shapes) in the engine's order.

    Raises InputError for a missing or unknown input.
    """
    missing = [name for name in expected if name not in feeds]
    unknown = [name for name in feeds if name not in expected]
    if missing or unknown:
        parts = [f"missing: {', '.join(missing)}"] if missing else []
        parts += [f"unknown: {', '.join(unknown)}"] if unknown else []
        raise InputError(f"the engine's inputs are {', '.join(expected)}; {'; '.join(parts)}.")
    return {name: feeds[name] for name in expected}
