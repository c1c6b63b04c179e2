"""Latency and memory against batch, sequence length and image size, at published shapes with random weights."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import Workspace
from pipeline.bench import methods, published, results
from pipeline.bench.scaling import lineup, points
from pipeline.measure import machine
from pipeline.run import Run

if TYPE_CHECKING:
    from pipeline.bench.scaling.points import Point
    from pipeline.recipe import Recipe

log = logging.getLogger(__name__)

COMMON = ("float_onnxruntime", "float_openvino", "nncf_openvino", "ours_onnxruntime", "ours_openvino")
METHODS = {"bert": COMMON, "segformer": (*COMMON, "nncf_openvino_float_depthwise")}  # a peer that is right there too
STAGES = ("quantize", "calibrate", "export", "lower", "engine")  # no verdict: random weights have no accuracy
FEW = 4  # samples to calibrate and to check an engine on, at other sizes than the base


def run(
    shape: str,
    *,
    axis: str | None = None,
    values: Sequence[int] = (),
    wanted: Sequence[str] = (),
    output: Path | None = None,
    settings: dict[str, Any] | None = None,
    command: str = "",
    record: Path | None = None,
    announce: Callable[[str], None] = log.info,
) -> dict[str, Any]:
    """Returns the rows of every axis of a shape, of one method at one point each (`lineup.row`).

    axis, values: one axis only, at these values. wanted: methods, the family's METHODS when empty; float ONNX Runtime
    is always among them. output: folder of the base engines; other image sizes lie beside it. record: a file that is
    written anew after every point, with its picture, so that a run that stops keeps what it measured. Raises InputError
    for an unknown shape, axis or method.
    """
    axes = points.plan(shape, axis, values)
    family, root = published.get(shape).family, output or published.folder(shape)
    chosen = methods.with_base(wanted or METHODS[family])
    found: dict[Point, list[dict[str, Any]]] = {}
    every = {point for steps in axes.values() for point in steps.values()}
    for size in sorted({fixed_size(family, point) for point in every}):
        recipe = build(shape, root, settings or {}, size, announce)
        threads = recipe.verification.threads or machine.usable_cores()
        with tempfile.TemporaryDirectory(prefix="scaling-") as scratch:
            built = lineup.Lineup(Workspace(recipe.folder.absolute()), chosen, Path(scratch), threads)
            for point in sorted(p for p in every if fixed_size(family, p) == size):
                announce(f"scaling: batch {point.batch}, {points.EXTENT[family]} {point.extent}")
                found[point] = built.rows(point)
                document = results.document(
                    command,
                    threads,
                    packages=results.WITH_PEERS,
                    shape=shape,
                    base={name: points.BASE[name] for name in (points.BATCH, points.EXTENT[family])},
                    **measured(axes, found),
                )
                if record is not None:
                    keep(record, document)
    return document


def measured(axes: points.Axes, found: Mapping[Point, Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """Returns {axes, rows} of the points that are measured: a point that lies on two axes has its rows on both."""
    done = {name: {v: point for v, point in steps.items() if point in found} for name, steps in axes.items()}
    return {
        "axes": {name: list(steps) for name, steps in done.items() if steps},
        "rows": [
            {"axis": name, "value": value, **row}
            for name, steps in done.items()
            for value, point in steps.items()
            for row in found[point]
        ],
    }


def fixed_size(family: str, point: Point) -> int:
    """Returns the extent that the engine of a point must be built for: its image size; one engine takes all lengths."""
    return point.extent if points.EXTENT[family] == "size" else points.BASE[points.EXTENT[family]]


def build(shape: str, root: Path, settings: Mapping[str, Any], size: int, announce: Callable[[str], None]) -> Recipe:
    """Returns the recipe of the engines for one size, which are then up to date on every backend that works here.

    The base size shares its folder with `bench --shape`.
    """
    from pipeline import backends, stages
    from pipeline.stages.build import locked

    other: dict[str, Any] = {}
    if size != points.BASE[points.EXTENT[published.get(shape).family]]:
        other = {"calibration.samples": FEW, "calibration.batch_size": 1, "verification.samples": FEW}
        other |= {"folder": root.with_name(f"{root.name}-{size}"), "shapes.image_size": size}
    recipe = published.recipe(shape, root, {**settings, **other})
    for backend in backends.usable():
        recipe = recipe.on_backend(backend)
        run = Run.of(recipe)
        with locked(recipe):
            for stage in STAGES:
                stages.run(stage, run, announce=announce)
    return recipe


def keep(path: Path, document: dict[str, Any]) -> None:
    """Writes the result file and, beside it, its picture."""
    from pipeline.bench.tables import scaling

    results.write(document, path)
    scaling.picture(document, path.with_suffix(".svg"))
