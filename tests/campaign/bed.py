"""What the trials damage: tiny checkpoints, their data, finished artifact folders, and processes that may be killed."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import pipeline
from helpers import tiny
from helpers.runs import recipe_for
from pipeline.errors import InputError
from pipeline.recipe import Recipe
from pipeline.stages.build import build

BACKEND = "onnxruntime"
OLD, NEW = {"calibration.percentile": 99.999}, {"calibration.percentile": 99.9}
# what begins with a copy of everything imported, so that a child is there at once
IMPORTED = ["torch", "transformers", "onnx", "onnxruntime", "onnxscript", "pipeline.stages.build", "campaign.bed"]
CALLS = ("replace", "link", "fsync", "unlink", "mkdir")  # of os: what a commit is made of


class Bed:
    """root: an empty folder, the campaign's own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._copies = 0
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(IMPORTED)

    @cached_property
    def checkpoints(self) -> dict[str, Path]:
        return {"bert": tiny.bert(self.root / "bert"), "segformer": tiny.segformer(self.root / "segformer")}

    @cached_property
    def data(self) -> dict[str, Path]:
        return {"bert": tiny.squad(self.root / "squad.json"), "segformer": tiny.scenes(self.root / "scenes")}

    def recipe(
        self, family: str, folder: Path, checkpoint: Path | None = None, data: Path | None = None, **more: Any
    ) -> Recipe:
        """Returns the recipe of a tiny model: 8 samples to calibrate and to judge, whatever its speed and accuracy."""
        settings = {
            "backend": BACKEND,
            "shapes.batches": (1, 2),
            "verification.runs": 5,
            "budgets.speedup": 0.0,
            "budgets.relative_drop": 1.0,
            "budgets.agreement": 0.0,
            **more,
        }
        return recipe_for(family, folder, checkpoint or self.checkpoints[family], data or self.data[family], **settings)

    @cached_property
    def built(self) -> dict[str, Path]:
        """Finished folders: "bert" and "segformer" of OLD settings, "bert new" the first built again with NEW."""
        made = {name: self.root / f"built-{name}" for name in ("bert", "segformer", "bert new")}
        for name, folder in made.items():
            new = name.endswith("new")
            if new:
                shutil.copytree(made["bert"], folder)
            report = build(self.recipe(name.partition(" ")[0], folder, **(NEW if new else OLD)))
            assert report["verdict"] == "pass", report["reasons"]
        return made

    @cached_property
    def answers(self) -> dict[str, dict[str, np.ndarray]]:
        """What the finished engines give on `feeds`."""
        found = {name: self.answer(folder) for name, folder in self.built.items()}
        assert any((found["bert"][output] != value).any() for output, value in found["bert new"].items())
        return found

    def feeds(self, family: str) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(5)
        if family == "segformer":
            return {"pixel_values": rng.standard_normal((1, 3, 64, 64), dtype=np.float32)}
        ids = rng.integers(5, 40, (1, 32))
        return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}

    def answer(self, folder: Path) -> dict[str, np.ndarray]:
        engine = pipeline.load_engine(folder, threads=1)
        return engine(self.feeds(engine.recipe.family))

    def serves(self, folder: Path) -> str:
        """Returns which of the finished engines a folder's engine is. Raises AssertionError where it is none."""
        found = self.answer(folder)
        for name, expected in self.answers.items():
            if all(np.array_equal(found.get(output), value) for output, value in expected.items()):
                return name
        raise AssertionError("an engine answers that was never verified")

    def copy(self, name: str) -> Path:
        """Returns a copy of a finished folder, which the caller may damage."""
        self._copies += 1
        return Path(shutil.copytree(self.built[name], self.root / f"copy-{self._copies}"))

    def folder(self) -> Path:
        """Returns a new empty folder."""
        self._copies += 1
        made = self.root / f"new-{self._copies}"
        made.mkdir()
        return made

    def child(self, work: Callable[..., None], *given: Any) -> Any:
        """Returns a started process that does `work`."""
        process = self._processes.Process(target=work, args=given)
        process.start()
        return process


def rebuild(recipe: Recipe, first: str, stage: str = "", after: float = 0.0, calls: int | None = None) -> None:
    """Builds from a stage on and kills its own process: some seconds after a stage began, or at the n-th call."""
    if calls is not None:
        kill_at(calls)

    def announce(line: str) -> None:
        if line.startswith(f"{stage}: running"):
            threading.Timer(after, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()

    build(recipe, force=True, first=first, announce=announce)


def kill_at(calls: int) -> None:
    left = [calls]

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*given: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*given, **named)

        return wrapped

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))


def write_in_turns(recipe: Recipe, rounds: int) -> None:
    """Builds again and again, waiting while another process has the folder."""
    import time

    while rounds:
        try:
            build(recipe, force=True, first="lower")
            rounds -= 1
        except InputError as error:
            assert "another run is working" in str(error), error
            time.sleep(0.05)
