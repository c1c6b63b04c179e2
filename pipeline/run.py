"""One run: a recipe, its artifact folder, and what "auto" and an unset number of threads mean on this machine."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from pipeline import backends, tasks
from pipeline.artifacts import Workspace
from pipeline.backends import Backend
from pipeline.judge.evaluation import read_json
from pipeline.measure import machine
from pipeline.recipe import Recipe
from pipeline.tasks import Task

Value = TypeVar("Value")


class Kept:
    """What a stage made of the user's files and a later one of the same run needs too, until it is dropped.

    Everything has a name and an origin, which tells the files that it was made of from all others.
    """

    def __init__(self) -> None:
        self._values: dict[str, tuple[Hashable, Any]] = {}
        self._folders: dict[str, Callable[[], object]] = {}  # what removes each

    def get(self, name: str, origin: Hashable, make: Callable[[], Value]) -> Value:
        """Returns what is kept under a name if it is of this origin, else what `make` returns, kept from now on."""
        found = self.find(name, origin)
        if found is None:
            self.drop(name)  # first: two of a kind at once may be more than the memory holds
            found = make()
            self.keep(name, origin, found)
        return found

    def keep(self, name: str, origin: Hashable, value: Any) -> None:
        """Keeps what is made already, in place of what was kept under the name."""
        self._values[name] = origin, value

    def find(self, name: str, origin: Hashable) -> Any | None:
        """Returns what is kept under a name if it is of this origin, else None."""
        known, value = self._values.get(name, (None, None))
        return value if known == origin else None

    def folder(self, name: str, inside: Path) -> Path:
        """Returns a new folder for what is kept under a name and need not be in memory; it goes with it.

        inside: an artifact folder, from which the next run removes what a killed one left.
        """
        path = Path(tempfile.mkdtemp(".partial", f".{name}.", inside))
        self._folders[name] = weakref.finalize(self, shutil.rmtree, path, ignore_errors=True)
        return path

    def drop(self, name: str) -> None:
        """Forgets what is kept under a name, if there is something."""
        self._values.pop(name, None)
        self._folders.pop(name, lambda: None)()

    def __enter__(self) -> Kept:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in {*self._values, *self._folders}:
            self.drop(name)


@dataclass(frozen=True)
class Run:
    """What every stage is given. It is made once; what it leaves to the machine is settled when first asked for."""

    recipe: Recipe
    workspace: Workspace
    kept: Kept = field(default_factory=Kept, compare=False, repr=False)

    @classmethod
    def of(cls, given: Recipe | Run) -> Run:
        """Returns the run of a recipe on its own folder; a run as it is."""
        return given if isinstance(given, Run) else cls(given, Workspace(given.folder, given))

    def with_recipe(self, recipe: Recipe) -> Run:
        """Returns the same run with other settings."""
        return self if recipe is self.recipe else Run(recipe, self.workspace, self.kept)

    def on(self, backend: str) -> Run:
        """Returns the same run for one backend."""
        return self.with_recipe(self.recipe.on_backend(backend))

    @cached_property
    def backend(self) -> Backend:
        """The backend to write the QDQ graph for, which need not run here; for "auto" the first that can."""
        return backends.get(backends.name_of(self.recipe.backend))

    @cached_property
    def tried(self) -> tuple[Backend, ...]:
        """The backends whose engines are built, the preferred one first. BackendUnavailable where none can run."""
        return tuple(backends.get(name) for name in backends.to_try(self.recipe.backend))

    @cached_property
    def threads(self) -> int:
        """Threads of engines and float models: as many on every rank as in one process, as sums depend on it."""
        return self.recipe.verification.threads or machine.usable_cores()

    @cached_property
    def about(self) -> dict[str, Any]:
        """The checked content of quantizers.json: family, architecture, task and every quantizer."""
        return read_json(self.workspace, "quantizers.json")

    @property
    def sha256(self) -> Callable[[Path], str]:
        """What gives the digest of a file's bytes, read once for as long as the file stays as it is."""
        return self.workspace.digests.sha256

    @property
    def task(self) -> Task:
        """What the model is for."""
        return tasks.get(self.about["task"])

    @property
    def checkpoint_digest(self) -> str | None:
        """The digest of the checkpoint that `quantize` saw, None before it ran."""
        inputs = self.workspace.manifest.stages.get("quantize", {}).get("inputs", {})
        return inputs.get("checkpoint")  # type: ignore[no-any-return]

    def digest(self, name: str) -> str | None:
        """Returns the recorded digest of an artifact, None while there is none."""
        return self.workspace.digest(name)
