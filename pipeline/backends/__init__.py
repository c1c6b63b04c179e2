"""The engines a QDQ graph can become. One backend is one file here, found by its name; none needs torch.

NAME, RANK                          the command-line name; `auto` takes the available one of lowest rank
PLACEMENT                           which quantizers are on
FILES                               what build() writes, relative to <backend>/
def dialect(recipe)                 -> names of the graph passes, in order; needs no runtime, as PLACEMENT and FILES
def unavailable_reason()            -> None, or one sentence with the one thing to install
def version()                       -> {package: version}, part of what makes an engine stale
def build(graph, area, recipe, precision)   writes FILES into `area`
def load(folder, threads)           -> Engine

build() is given the QDQ graph for int8 and the rewritten float model for other precisions. One that reads more of the
recipe than the graph already shows, one that builds several precisions though it is the only backend asked for, and one
that wants the float model in a dialect of its own (build() then is given the QDQ graph, and finds it beside), have:

def settings(recipe)                                   -> what of the recipe build() reads, as a flat dict
def precisions(recipe)                                 -> what to build, some of "int8", "fp16" and "fp32"
def float_graph(model_onnx, recipe, precision)         -> the bytes of the graph that a float engine is built from

One that runs on a GPU says so, and is compared with float ONNX Runtime there, where that has CUDA:

ON_GPU = True

And one whose engines can be built by a tool of the runtime's own, on another machine:

def command(qdq_onnx, area, recipe)                    -> the command line, as a list of arguments
def lint_target(recipe)                                -> the target to lint its QDQ graph for
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from pipeline.errors import ArtifactError, BackendUnavailable, InputError, near_names
from pipeline.measure import processor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.artifacts import Workspace
    from pipeline.backends._policy import Policy
    from pipeline.recipe import Recipe

    Array = NDArray[np.generic]

AUTO = "auto"


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
    """The names that a module of this package has."""

    NAME: str
    RANK: int
    FILES: tuple[str, ...]
    PLACEMENT: Policy

    def dialect(self, recipe: Recipe) -> tuple[str, ...]: ...
    def unavailable_reason(self) -> str | None: ...
    def version(self) -> dict[str, str]: ...
    def build(self, graph: Path, area: Path, recipe: Recipe, precision: str = "int8") -> None: ...
    def load(self, folder: Path, threads: int | None) -> Engine: ...


def names() -> list[str]:
    """Returns every backend's name, the one that `auto` prefers first."""
    found = [m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if not m.name.startswith("_")]
    return sorted(found, key=lambda name: (get(name).RANK, name))


def usable() -> list[str]:
    """Returns the backends that can run here, the one that `auto` prefers first."""
    return [name for name in names() if get(name).unavailable_reason() is None]


def on_gpu(name: str) -> bool:
    """Returns whether a backend's engines run on a GPU."""
    return bool(getattr(get(name), "ON_GPU", False))


def to_try(asked: str) -> list[str]:
    """Returns the backends whose engines a run builds: `asked` itself, or for "auto" the one for a GPU where that can
    run, else every one that can run on this CPU, the preferred one first.

    Raises as `choose`.
    """
    first = choose(asked)
    return [first] if asked != AUTO or on_gpu(first) else [name for name in usable() if not on_gpu(name)]


def precisions(name: str, recipe: Recipe) -> tuple[str, ...]:
    """Returns the precisions that a run builds: a backend's own choice, else int8, and beside it float for "auto"."""
    backend: Any = get(name)
    if hasattr(backend, "precisions"):
        return tuple(backend.precisions(recipe))
    return ("int8", "fp32") if recipe.backend == AUTO else ("int8",)


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


def load_checked(workspace: Workspace, name: str, threads: int | None) -> Engine:
    """Returns the engine that `engine` built for one backend, after checking the digest of every file of it.

    Raises ArtifactError for a file that is missing or altered, and for an engine of another class of processors whose
    sums may saturate on this one.
    """
    backend = get(name)
    for file in backend.FILES:
        workspace.path(f"{name}/{file}")
    if not on_gpu(name):
        processor.admit(json.loads(workspace.path(f"{name}/engine.json").read_text(encoding="utf-8")), workspace)
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
