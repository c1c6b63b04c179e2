"""Engines of a pack: built by the backend as `make engine` does, and run on inputs that lie on the GPU already."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.backends import tensorrt
from pipeline.backends._tensorrt import plan as plans
from pipeline.backends._tensorrt.engine import TensorRtEngine
from pipeline.measure import latency

if TYPE_CHECKING:
    from pipeline.bench.gpu_test.opened import Case

SPAN = 0.004  # seconds that one timed run takes at least, of the slowest engine
MOST_CALLS = 100
WARMUP = 3


def build(case: Case, variant: Mapping[str, Any], target: str, folder: Path) -> dict[str, Any]:
    """Returns {seconds, plan_bytes, graph_sha256} after building an engine in `folder`, which is emptied."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    graph = case.graph(variant["graph"])
    precision = variant["precision"]
    # where the backend looks for the graph of a precision
    path = folder / ("model.qdq.onnx" if precision == "int8" else f"model.{precision}.onnx")
    path.write_bytes(graph)
    start = time.perf_counter()
    tensorrt.build(folder / "model.qdq.onnx", folder, case.recipe(target, folder), precision)
    seconds = time.perf_counter() - start
    path.unlink()  # hundreds of megabytes, and in the pack
    return {
        "seconds": round(seconds, 2),
        "plan_bytes": (folder / plans.PLAN).stat().st_size,
        "graph_sha256": hashlib.sha256(graph).hexdigest(),
    }


def load(folder: Path) -> TensorRtEngine:
    """Returns the engine of a folder. Raises ArtifactError for a plan that is missing or of another machine."""
    note = plans.read(folder)
    plans.check(note, tensorrt.maker(), folder)
    return TensorRtEngine(folder, note)


def time_all(runs: Mapping[str, Callable[[int], None]], rounds: int) -> dict[str, Any]:
    """Returns {calls, rounds, ms: {engine: milliseconds of one computation, a value a round}} of `resident` engines.

    All of them run in every round, in turns. A timed run computes `calls` times in a row: submitting and waiting then
    do not count where the GPU is slower than they are.
    """
    if not runs:
        return {}
    slowest = 0.0
    for run in runs.values():
        run(1)
        start = time.perf_counter()
        run(1)
        slowest = max(slowest, time.perf_counter() - start)
    calls = max(1, min(MOST_CALLS, round(SPAN / max(slowest, 1e-6))))
    seconds = latency.interleave({n: partial(run, calls) for n, run in runs.items()}, warmup=WARMUP, runs=rounds)
    ms = {name: [round(1e3 * x / calls, 5) for x in values] for name, values in seconds.items()}
    return {"calls": calls, "rounds": rounds, "ms": ms}
