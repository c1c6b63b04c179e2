"""One run: a recipe, its artifact folder, and what "auto" and an unset number of threads mean on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline import backends, tasks
from pipeline.artifacts import Workspace
from pipeline.backends import Backend
from pipeline.judge.evaluation import read_json
from pipeline.measure import machine
from pipeline.recipe import Recipe
from pipeline.tasks import Task


@dataclass(frozen=True)
class Run:
    """What every stage is given. It is made once; what it leaves to the machine is settled when first asked for."""

    recipe: Recipe
    workspace: Workspace

    @classmethod
    def of(cls, given: Recipe | Run) -> Run:
        """Returns the run of a recipe on its own folder; a run as it is."""
        return given if isinstance(given, Run) else cls(given, Workspace(given.folder, given))

    def with_recipe(self, recipe: Recipe) -> Run:
        """Returns the same run with other settings."""
        return self if recipe is self.recipe else Run(recipe, self.workspace)

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
