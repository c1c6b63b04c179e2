"""Every way to run a model side by side: interleaved, with spread, outputs checked in the same run."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.bench import methods, results, timing
from pipeline.judge import parity
from pipeline.judge.evaluation import Reference, one_by_one
from pipeline.measure import latency
from pipeline.run import Run

if TYPE_CHECKING:
    from pipeline.bench.timing import Runner
    from pipeline.recipe import Recipe

log = logging.getLogger(__name__)

FILE = "bench.json"
BASE = methods.BASE
ACCURACY_SAMPLES = 32


def run(
    recipe: Recipe, *, batch: int, wanted: Sequence[str] = (), record: Path | None = None, command: str = ""
) -> dict[str, Any]:
    """Returns the table of methods on the artifacts in `recipe.folder`, and adds it to bench.json there.

    record: another file to add it to, for the README's tables; command: what the table says it came from.

    Every method's outputs on held-out samples are compared with the float reference before it is timed. One that
    cannot run here is listed with the reason, and so is a peer that breaks; ours and the float ones raise.
    """
    run = Run.of(recipe)
    workspace, threads, task = run.workspace, run.threads, run.task
    reference = Reference.read(workspace)
    feeds = reference.first(batch).inputs
    rows: dict[str, dict[str, Any]] = {}
    runners: dict[str, Runner] = {}

    def ready(method: methods.Method, area: Path) -> tuple[Runner, dict[str, Any]]:
        runner = method.make(workspace, area, threads)
        timing.prepare(runner, feeds)
        return runner, compare(task, reference.first(ACCURACY_SAMPLES), runner)

    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        for name, method in methods.with_base(wanted or methods.usual()).items():
            log.info("bench: preparing %s", method.label)
            found, skipped = methods.attempt(method, partial(ready, method, Path(scratch) / name))
            rows[name] = {"method": name, "label": method.label, "skipped": skipped}
            if found is not None:
                runners[name], rows[name]["accuracy"] = found
        asked = recipe.verification
        calls = {name: partial(runner, feeds) for name, runner in runners.items()}
        times = timing.in_turns(calls, warmup=asked.warmup, runs=asked.runs)
    for name, seconds in times.items():
        rows[name].update(latency=latency.summary(seconds), speedup=latency.speedup(times[BASE], seconds))
    table = results.document(
        command,
        threads,
        packages=results.WITH_PEERS,
        model=recipe.model,
        checkpoint=recipe.checkpoint or "embedded",
        batch=batch,
        inputs=results.shapes_of(feeds),
        warmup=asked.warmup,
        runs=asked.runs,
        methods=list(rows.values()),
    )
    results.add(table, workspace.folder / FILE, record, same=("checkpoint", "batch"))
    return table


def compare(task: Any, reference: Reference, runner: Runner) -> dict[str, Any]:
    """Returns {metric, float, value, agreement, cosine} of one method on held-out samples, one at a time."""
    found = one_by_one(runner, reference.inputs, "checking outputs")
    before, after = (task.predict(x, reference.labels) for x in (reference.outputs, found))
    return {
        "metric": task.METRIC,
        "float": task.score(before, reference.labels),
        "value": task.score(after, reference.labels),
        "agreement": task.agreement(before, after),
        "cosine": min(parity.cosine(reference.outputs[n], found[n]) for n in reference.outputs),
        "samples": reference.samples,
    }
