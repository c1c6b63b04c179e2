"""The encoded samples of a split in files of a few each: every sample is read and encoded once a run, and a hundred
photographs need not be in memory while other work is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.judge.evaluation import PER_MODEL

if TYPE_CHECKING:
    from pipeline.recipe import Recipe
    from pipeline.tasks import Arrays, Task

FEW = 8  # samples that are in memory at a time


@dataclass(frozen=True)
class Encoded:
    """folder: holds `<first row>-<end>.npz`, the inputs and labels of a few samples each."""

    folder: Path

    @classmethod
    def write(cls, folder: Path, task: Task, recipe: Recipe, files: Path, raw: Sequence[Any]) -> Encoded:
        """Returns the samples after encoding them into an empty folder. files: the checkpoint's that encode.

        Raises InputError for a sample that cannot be encoded.
        """
        end = 0
        for start in range(0, len(raw), FEW):
            inputs, labels = task.encode(files, recipe, raw[start : start + FEW])
            first, end = end, end + len(next(iter(inputs.values())))  # a long text is several rows
            arrays = {
                f"{kind}/{n}": x for kind, part in (("input", inputs), ("label", labels)) for n, x in part.items()
            }
            np.savez(folder / f"{first:08}-{end:08}.npz", allow_pickle=False, **arrays)
        return cls(folder)

    def read(self) -> tuple[Arrays, Arrays]:
        """Returns inputs and labels, first axis N."""
        inputs: Arrays = {}
        count = int(self._paths()[-1].stem.partition("-")[2])
        for path in self._paths():
            first, _, end = path.stem.partition("-")
            for name, part in _members(path, "input"):
                whole = inputs.setdefault(name, np.empty((count, *part.shape[1:]), part.dtype))
                whole[int(first) : int(end)] = part
        return inputs, self.labels()

    def labels(self) -> Arrays:
        """Returns the labels, first axis N but for those in PER_MODEL."""
        parts = [dict(_members(path, "label")) for path in self._paths()]
        return {n: x if n in PER_MODEL else np.concatenate([part[n] for part in parts]) for n, x in parts[0].items()}

    def first(self) -> Arrays:
        """Returns the inputs of the first sample, as a batch of one."""
        return {name: part[:1] for name, part in _members(self._paths()[0], "input")}

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.npz"))


def _members(path: Path, kind: str) -> Iterator[tuple[str, np.ndarray]]:
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            if name.startswith(f"{kind}/"):
                yield name.removeprefix(f"{kind}/"), archive[name]
