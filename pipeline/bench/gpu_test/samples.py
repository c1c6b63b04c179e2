"""The held-out samples of one model as they travel: inputs, float outputs at some points, labels, float predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.judge.evaluation import read_arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Arrays = dict[str, Array]

CHECKED = 5  # samples of the parity and batch checks: no divisor of 8 or 32, so a batch repeats them out of step
POINTS = 16384  # values of a sample's output that outputs are compared at
GOLDEN = (5**0.5 - 1) / 2
LEVELS = 256


@dataclass(frozen=True)
class Samples:
    """inputs: [N, …]. floats: the float model's outputs of the first `checked` at POINTS. predictions: the float
    model's, None where accuracy means nothing.
    """

    inputs: Arrays
    floats: Arrays
    labels: Arrays
    predictions: Array | None

    @property
    def count(self) -> int:
        return len(next(iter(self.inputs.values())))

    @property
    def checked(self) -> int:
        return len(next(iter(self.floats.values())))

    def batch(self, size: int) -> tuple[Arrays, list[int]]:
        """Returns the inputs of `size` samples, the checked ones over and over, and which they are."""
        places = [i % self.checked for i in range(size)]
        return {name: np.ascontiguousarray(x[places]) for name, x in self.inputs.items()}, places

    def write(self, path: Path) -> None:
        """Writes a .npz; images, which have few levels in each channel, as a byte a value."""
        arrays: Arrays = {}
        for name, x in self.inputs.items():
            table = levels(x)
            if table is None:
                arrays[f"input/{name}"] = x
            else:
                arrays[f"levels/{name}"], arrays[f"code/{name}"] = table, encoded(x, table)
        arrays |= {f"float/{name}": x for name, x in self.floats.items()}
        arrays |= {f"label/{name}": x for name, x in self.labels.items()}
        if self.predictions is not None:
            arrays["prediction"] = self.predictions
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, allow_pickle=False, **arrays)

    @classmethod
    def read(cls, path: Path) -> Samples:
        arrays = read_arrays(path)
        parts: dict[str, Arrays] = {kind: {} for kind in ("input", "levels", "code", "float", "label")}
        for key, value in arrays.items():
            kind, _, name = key.partition("/")
            if name:
                parts[kind][name] = value
        found = arrays.get("prediction")
        decoded = {name: decode(parts["code"][name], table) for name, table in parts["levels"].items()}
        return cls({**parts["input"], **decoded}, parts["float"], parts["label"], found)


def levels(x: Array) -> Array | None:
    """Returns the values that occur in each channel of images [N, C, H, W], [C, 256], None where they are more."""
    if x.ndim != 4 or x.dtype != np.float32:
        return None
    found = [np.unique(x[:, channel]) for channel in range(x.shape[1])]
    if any(len(values) > LEVELS for values in found):
        return None
    return np.stack([np.pad(values, (0, LEVELS - len(values)), mode="edge") for values in found])


def encoded(x: Array, table: Array) -> Array:
    """Returns uint8 [N, C, H, W]: the place of every value in its channel's row of `table`."""
    return np.stack([np.searchsorted(row, x[:, c]).astype(np.uint8) for c, row in enumerate(table)], axis=1)


def decode(code: Array, table: Array) -> Array:
    """Returns the images that `encoded` took."""
    return np.stack([row[code[:, c]] for c, row in enumerate(table)], axis=1)


def at_points(outputs: Mapping[str, Array]) -> Arrays:
    """Returns every output [N, …] as [N, at most POINTS]: the same values of every sample, spread over all of it.

    A map of 150 classes is 10 MB a sample. A fault in a thousandth of it meets 16 points.
    """
    found: Arrays = {}
    for name, x in outputs.items():
        rows = np.asarray(x).reshape(len(x), -1)
        found[name] = rows[:, _places(rows.shape[1])] if rows.shape[1] > POINTS else rows
    return found


def _places(size: int) -> Array:
    """Returns POINTS different places below `size`: multiples of a step near the golden section of it."""
    step = int(size * GOLDEN)
    while gcd(step, size) != 1:
        step += 1
    return np.asarray(np.arange(POINTS, dtype=np.int64) * step % size)
