"""Which models are measured, and their artifact folders: made where torch is, copied to where the GPU is."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline import stages
from pipeline.artifacts import Workspace, commands
from pipeline.backends import tensorrt
from pipeline.bench import published, results
from pipeline.bench.gpu_test import options
from pipeline.bench.methods.tensorrt import TensorRt, recipe_of
from pipeline.errors import BackendUnavailable, InputError
from pipeline.files import digest_of
from pipeline.judge.evaluation import Reference
from pipeline.recipe import Recipe
from pipeline.run import Run
from pipeline.stages.build import locked

ROOT = Path("exports")
SHAPES = {"gpu-bert-base": "bert-base", "gpu-segformer-b0": "segformer-b0", "gpu-bert": None, "gpu-segformer": None}
SETTINGS = {"shapes.sequence_length": 128, "shapes.image_size": 512, "shapes.batches": (1, 8, 32)}
DRAWN = {"budgets.relative_drop": 1, "budgets.agreement": 0}  # random weights have no accuracy
GRAPH = "tensorrt/model.qdq.onnx"
FLOAT_GRAPHS = ("tensorrt/model.fp16.onnx", "tensorrt/model.fp32.onnx")
MEASURED = ("quantizers.json", "reference.npz", "tensorrt/exact.npz", GRAPH, *FLOAT_GRAPHS)


@dataclass(frozen=True)
class Subject:
    """One artifact folder, with this machine's TensorRT."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.folder)

    @cached_property
    def recipe(self) -> Recipe:
        """The folder's recipe. Raises InputError for a folder that is for another TensorRT."""
        return recipe_of(self.workspace)

    @cached_property
    def methods(self) -> dict[str, TensorRt]:
        """The ways to make an engine of it by name, those included that cannot run here."""
        return options.of(self.recipe.family, tensorrt.target(self.recipe))

    def described(self) -> dict[str, Any]:
        """Returns what the result file says of it. judged: whether its accuracy means something."""
        missing = {name: method.unavailable_reason() for name, method in self.methods.items()}
        return {
            "name": self.name,
            "digest": digest(self.workspace),
            "judged": not self.recipe.budgets.waives_metric,
            "inputs": results.shapes_of(Reference.read(self.workspace).first(1).inputs),
            "batches": list(self.recipe.shapes.batches),
            "methods": [name for name, reason in missing.items() if reason is None],
            "left_out": {self.methods[name].label: reason for name, reason in missing.items() if reason},
        }


def digest(workspace: Workspace) -> str:
    """Returns a digest of the files that a folder's figures depend on."""
    return digest_of({name: workspace.digest(name) for name in MEASURED})


def usual(settings: Mapping[str, Any], announce: Callable[[str], None], root: Path = ROOT) -> list[Path]:
    """Returns the folders of SHAPES. Those that are missing are made, and with settings all are brought up to date.

    One that is here is taken as it is: it may come from another machine. Raises InputError where torch is not there to
    make them.
    """
    folders = {root / name: shape for name, shape in SHAPES.items()}
    to_make = {f: s for f, s in folders.items() if settings or GRAPH not in Workspace(f).manifest.files}
    if to_make and importlib.util.find_spec("torch") is None:
        made_by = commands.by_make("gpu-test", {}, [])
        raise InputError(
            f"{', '.join(map(str, to_make))} cannot be made here, without torch: copy what `{made_by}` made on a "
            "machine that has it, or name the folders that are here."
        )
    for folder, shape in to_make.items():
        make(folder, shape, settings, announce)
    return list(folders)


def make(folder: Path, shape: str | None, settings: Mapping[str, Any], announce: Callable[[str], None]) -> None:
    """Runs the stages up to the graphs for TensorRT. shape: a published one with random weights, None: embedded."""
    family = published.get(shape).family if shape else folder.name.removeprefix("gpu-")
    own = {**published.settings(shape, folder), **DRAWN} if shape else {}
    given = {"folder": folder, "backend": tensorrt.NAME, **SETTINGS, **own, **settings}
    recipe = Recipe.load(family, overrides=given)
    with locked(recipe):
        run = Run.of(recipe)
        for stage in stages.WITHOUT_RUNTIME:
            stages.run(stage, run, announce=lambda line: announce(f"{folder}: {line}"))


def hand_over(folders: Sequence[Path], error: BackendUnavailable) -> BackendUnavailable:
    """Returns the fault with what to do about it: the folders are measured on another machine."""
    command = commands.call("gpu-test", *folders, python="python")
    return BackendUnavailable(
        f"{error}\nCopy {', '.join(map(str, folders))} to a machine that has them, and run there\n  {command}"
    )
