"""One point of `scaling`: every method in a process of its own, outputs checked, then timed in turns."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.bench import methods, results
from pipeline.bench.methods import BASE
from pipeline.bench.scaling.process import Worker, WorkerFault
from pipeline.bench.scaling.worker import Job
from pipeline.judge import parity
from pipeline.judge.evaluation import Reference, read_arrays, read_json
from pipeline.measure import latency

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.artifacts import Workspace
    from pipeline.bench.scaling.points import Point

    Arrays = dict[str, NDArray[np.generic]]

log = logging.getLogger(__name__)

SECONDS = 8.0  # of timing a point, where MOST or LEAST rounds do not decide
LEAST, MOST = 7, 60  # rounds; from 6 on the median has a 95 % interval
WARMUP = 1  # rounds, after the two calls that every worker makes by itself
COSINE = 0.98  # least cosine to the float outputs: see `wrong`
SEED = 0


class Lineup:
    """The methods on one workspace, built once: what peers quantize stays under `scratch` for all its points."""

    def __init__(self, workspace: Workspace, chosen: Mapping[str, methods.Method], scratch: Path, threads: int) -> None:
        self._workspace, self._methods, self._scratch, self._threads = workspace, chosen, scratch, threads
        self._skipped: dict[str, str | None] = {}
        for name, method in chosen.items():
            log.info("scaling: preparing %s", method.label)
            self._skipped[name] = methods.attempt(method, partial(method.build, workspace, scratch / name))[1]

    def rows(self, point: Point) -> list[dict[str, Any]]:
        """Returns a row a method. One that does not fit the memory, or computes something else, has no latency.

        Raises RuntimeError for any other fault of a method that is not a peer.
        """
        import numpy as np

        fed = feeds(self._workspace, point)
        np.savez(self._scratch / "feeds.npz", allow_pickle=False, **fed)
        rows = {name: row(name, method, fed, self._skipped[name]) for name, method in self._methods.items()}
        with ExitStack() as stack:
            workers = {}
            for name in self._methods:
                if rows[name]["skipped"] is None and rows[BASE]["skipped"] is None:
                    worker = guarded(rows[name], partial(self._start, name, stack))
                    if worker is not None and self._right(rows[name]):
                        workers[name] = worker
            time_all(rows, workers)
        if rows[BASE]["skipped"] is not None:  # nothing to check or to compare with
            for other in rows.values():
                other["skipped"] = other["skipped"] or f"{rows[BASE]['label']}: {rows[BASE]['skipped']}"
        return list(rows.values())

    def _start(self, name: str, stack: ExitStack) -> Worker:
        job = Job(
            method=name,
            workspace=str(self._workspace.folder),
            area=str(self._scratch / name),
            threads=self._threads,
            feeds=str(self._scratch / "feeds.npz"),
            outputs=str(self._scratch / f"{name}.npz"),
        )
        return stack.enter_context(Worker(job, self._scratch / f"{name}.log"))

    def _right(self, found: dict[str, Any]) -> bool:
        """Returns whether a method's outputs are the float ones, up to int8's rounding, and writes it into its row."""
        exact, outputs = (read_arrays(self._scratch / f"{name}.npz") for name in (BASE, found["method"]))
        cosines = [parity.cosine(exact[name], outputs[name]) for name in exact]
        if all(map(math.isfinite, cosines)):
            found["cosine"] = min(cosines)
        found["wrong"] = found["cosine"] is None or found["cosine"] < COSINE
        if found["wrong"]:
            found["skipped"] = f"wrong outputs, cosine {min(cosines):.4f} to the float model's"
            log.warning("scaling: %s: %s", found["label"], found["skipped"])
        return not found["wrong"]


def row(name: str, method: methods.Method, fed: Arrays, skipped: str | None) -> dict[str, Any]:
    """Returns what is known of a method before it runs.

    skipped         why there is no latency
    wrong           because the outputs are not the float model's
    cosine          of the outputs to the float ones, the least of any sample; None where one is not finite
    rounds          timed calls
    latency         ms: p50, p90, p99, mean, and low to high, a 95 % interval of p50
    speedup         over BASE, of the same rounds
    peak_rss_bytes  of a process with this method alone, from its start to the last call: with Python, the runtime,
                    files mapped into memory, what compiling took, inputs and outputs
    """
    return {
        "method": name,
        "label": method.label,
        "peer": method.peer,
        "inputs": results.shapes_of(fed),
        "skipped": skipped,
        "wrong": False,
        "cosine": None,
        "rounds": None,
        "latency": None,
        "speedup": None,
        "peak_rss_bytes": None,
    }


def guarded(found: dict[str, Any], work: Callable[[], Any]) -> Any:
    """Returns what `work` gives, None after a fault that the row then names.

    Raises RuntimeError for a fault of ours that is not too little memory.
    """
    try:
        return work()
    except WorkerFault as fault:
        if not (fault.memory or found["peer"]):
            raise RuntimeError(f"{found['label']}: {fault}") from fault
        found["skipped"] = str(fault)
        log.warning("scaling: %s: %s", found["label"], fault)
        return None


def time_all(rows: dict[str, dict[str, Any]], workers: dict[str, Worker]) -> None:
    """Runs the workers in turns and writes latency, speed-up and memory into their rows."""
    if BASE not in workers:
        return
    rounds = max(LEAST, min(MOST, int(SECONDS / sum(worker.seconds for worker in workers.values()))))
    seconds: dict[str, list[float]] = {name: [] for name in workers}

    def call(name: str) -> None:  # by the worker's own clock: the pipe's time is not the method's
        if rows[name]["skipped"] is None:
            took = guarded(rows[name], workers[name].run)
            seconds[name] += [took] if took is not None else []

    latency.interleave({name: partial(call, name) for name in workers}, warmup=WARMUP, runs=rounds)
    for name, worker in workers.items():
        peak = guarded(rows[name], worker.peak) if rows[name]["skipped"] is None else None
        if peak is None or rows[BASE]["skipped"] is not None:
            continue
        timed, base = seconds[name][WARMUP:], seconds[BASE][WARMUP:]
        rows[name].update(
            rounds=rounds,
            latency={**latency.summary(timed), **interval(timed)},
            speedup=latency.speedup(base, timed),
            peak_rss_bytes=peak,
        )


def interval(seconds: Sequence[float]) -> dict[str, float]:
    """Returns {low, high} in milliseconds: a 95 % interval of the median."""
    low, high = latency.median_ranks(len(seconds))
    ordered = sorted(seconds)
    return {"low": 1e3 * ordered[low], "high": 1e3 * ordered[high]}


def feeds(workspace: Workspace, point: Point) -> Arrays:
    """Returns the inputs of a point: held-out images, or random tokens without padding [batch, length]."""
    import numpy as np

    inputs = Reference.read(workspace).first(point.batch).inputs
    if "input_ids" not in inputs:
        return inputs
    shape = (point.batch, point.extent)
    words = read_json(workspace, "config.json")["vocab_size"]
    made = {
        "input_ids": np.random.default_rng(SEED).integers(0, words, shape),
        "attention_mask": np.ones(shape, np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
    }
    return {name: made[name] for name in inputs}
