"""A pack on the machine with the GPU: checked, then read one model at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import tasks
from pipeline.artifacts import commands
from pipeline.bench.gpu_test.samples import Samples
from pipeline.bench.gpu_test.stored import restore
from pipeline.errors import ArtifactError
from pipeline.files import digest_of, sha256
from pipeline.judge.evaluation import read_arrays
from pipeline.recipe import Budgets, Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.tasks import Task

    Arrays = dict[str, NDArray[Any]]

FORMAT = 2
MANIFEST = "manifest.json"
SAMPLES, OUTPUTS = "samples", "outputs"


@dataclass(frozen=True)
class Case:
    """One model of a pack."""

    folder: Path
    entry: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.entry["name"])

    @property
    def batches(self) -> tuple[int, ...]:
        return tuple(self.entry["recipe"]["shapes"]["batches"])

    @cached_property
    def samples(self) -> Samples:
        return Samples.read(self.folder / SAMPLES / f"{self.name}.npz")

    @cached_property
    def task(self) -> Task:
        return tasks.get(self.entry["task"])

    @property
    def budgets(self) -> Budgets:
        return Budgets(**self.entry["recipe"]["budgets"])

    def variants(self, target: str) -> list[dict[str, Any]]:
        """Returns the engines to build with a TensorRT of dialect `target`, in their order."""
        return [dict(row) for row in self.entry["variants"] if row["target"] == target]

    def recipe(self, target: str, folder: Path) -> Recipe:
        """Returns the recipe that an engine in `folder` is built by."""
        overrides = {"folder": folder, "backend": "tensorrt", "tensorrt.target": target}
        return Recipe.load(self.entry["recipe"]["family"], overrides=overrides, defaults=self.entry["recipe"])

    def graph(self, digest: str) -> bytes:
        """Returns a graph with its weights."""
        return restore(self.folder, digest)

    def computed(self, digest: str) -> Arrays:
        """Returns what a graph computes on the checked samples, at the points."""
        return read_arrays(self.folder / OUTPUTS / f"{digest}.npz")


@dataclass(frozen=True)
class Pack:
    """A folder that `gpu-pack` made. digest: of its manifest, which has the digest of every file."""

    digest: str
    cases: Sequence[Case]
    targets: Sequence[str]


def read(folder: Path) -> Pack:
    """Returns the pack. Raises ArtifactError, naming the files, where it is not whole and unaltered."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be read ({error.strerror}): {folder} is no pack; {again(folder)}."
        ) from error
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON ({error}); {again(folder)}.") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArtifactError(f"{path} is not the manifest of a whole pack of format {FORMAT}; {again(folder)}.")
    wrong = [name for name, known in manifest["files"].items() if not _intact(folder / name, known)]
    if wrong:
        shown = ", ".join(wrong[:5]) + (f", … ({len(wrong)} in all)" if len(wrong) > 5 else "")
        raise ArtifactError(f"{folder} has files that are missing or altered: {shown}; {again(folder)}.")
    cases = [Case(folder, entry) for entry in manifest["subjects"]]
    return Pack(digest_of(manifest), cases, tuple(manifest["targets"]))


def again(folder: Path) -> str:
    """Returns what to do about a pack that is not whole; packs are made where torch is, on another machine perhaps."""
    command = commands.call("gpu-pack", folder, python="python")
    return f"pack again with `{command}`, or copy the folder anew"


def _intact(path: Path, known: Mapping[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == known["bytes"] and sha256(path) == known["sha256"]
