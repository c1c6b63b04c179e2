"""The points that `scaling` measures: one axis varies, the other keeps its base value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.bench import published
from pipeline.errors import InputError, near_names

BATCH = "batch"
EXTENT = {"bert": "length", "segformer": "size"}  # a family's second axis: tokens, or pixels of height and width
BASE = {BATCH: 1, "length": 128, "size": 512}
UNIT = {BATCH: "samples a call", "length": "tokens", "size": "pixels of height and width"}

LENGTHS = (32, 64, 128, 256, 384, 512)
SIZES = (256, 384, 512, 768, 1024)
PLANS: dict[str, dict[str, tuple[int, ...]]] = {
    "bert-base": {BATCH: (1, 2, 4, 8), "length": LENGTHS},
    "segformer-b0": {BATCH: (1, 2, 4, 8), "size": SIZES},
    "segformer-b2": {BATCH: (1, 2, 4), "size": SIZES},
}


@dataclass(frozen=True, order=True)
class Point:
    """The inputs of one measurement: samples a call, and their tokens or pixels."""

    extent: int
    batch: int


Axes = dict[str, dict[int, Point]]


def plan(shape: str, axis: str | None = None, values: Sequence[int] = ()) -> Axes:
    """Returns the points of every axis of a shape, or of one axis, at its default values or at `values`.

    Raises InputError for an unknown shape, an axis that the shape has not, values without an axis or below 1.
    """
    family, axes = published.get(shape).family, PLANS[shape]
    if axis is not None and axis not in axes:
        raise InputError(f"unknown axis {axis!r} of the shape {shape}.{near_names(axis, axes)}")
    if values and axis is None:
        raise InputError(f"--values {','.join(map(str, values))} needs the --axis that they are of.")
    if any(value < 1 for value in values):
        raise InputError(f"--values {','.join(map(str, values))}: values begin at 1.")
    chosen = {axis: tuple(sorted(set(values))) or axes[axis]} if axis else axes
    extent = BASE[EXTENT[family]]
    return {
        name: {v: Point(extent, v) if name == BATCH else Point(v, BASE[BATCH]) for v in steps}
        for name, steps in chosen.items()
    }
