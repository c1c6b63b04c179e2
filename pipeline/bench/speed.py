"""Every way to run a model side by side: interleaved, with spread, outputs checked in the same run."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import tasks
from pipeline.artifacts import Workspace
from pipeline.bench import methods, records
from pipeline.judge import parity
from pipeline.judge.evaluation import Reference, read_json
from pipeline.measure import latency, machine
from pipeline.progress import track
from pipeline.recipe import Recipe
from pipeline.stages import versions
from pipeline.stages.verify import PACKAGES

log = logging.getLogger(__name__)

FILE = "bench.json"
BASE = methods.BASE
ACCURACY_SAMPLES = 32
PEER_PACKAGES = ("nncf", "nvidia-modelopt")


def run(
    recipe: Recipe, *, batch: int, wanted: Sequence[str] = (), record: Path | None = None, command: str = ""
) -> dict[str, Any]:
    """Returns the table of methods on the artifacts in `recipe.folder`, and adds it to bench.json there.

    record: another file to add it to, for the README's tables; command: what the table says it came from.

    Every method's outputs on held-out samples are compared with the float reference before it is timed. One that
    cannot run here is listed with the reason, and so is a peer that breaks; ours and the float ones raise.
    """
    workspace, threads = Workspace(recipe.folder), recipe.verification.threads or machine.usable_cores()
    reference = Reference.read(workspace)
    task = tasks.get(read_json(workspace, "quantizers.json")["task"])
    feeds = reference.first(batch).inputs
    judged = partial(compare, task, reference.first(ACCURACY_SAMPLES))
    rows: dict[str, dict[str, Any]] = {}
    runners: dict[str, methods.Runner] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        for name, method in methods.with_base(wanted or list(methods.found())).items():
            log.info("bench: preparing %s", method.label)
            ready, skipped = methods.attempt(
                method, partial(prepared, method, workspace, Path(scratch) / name, threads, feeds, judged)
            )
            rows[name] = {"method": name, "label": method.label, "skipped": skipped}
            if ready is not None:
                runners[name], rows[name]["accuracy"] = ready
        asked = recipe.verification
        times = latency.interleave(
            {name: partial(runner, feeds) for name, runner in runners.items()},
            warmup=asked.warmup,
            runs=asked.runs,
            progress=lambda rounds: track(rounds, "timing", asked.warmup + asked.runs),
        )
    for name, seconds in times.items():
        rows[name].update(latency=latency.summary(seconds), speedup=latency.speedup(times[BASE], seconds))
    table = {
        "command": command,
        "model": recipe.model,
        "checkpoint": recipe.checkpoint or "embedded",
        "batch": batch,
        "inputs": {key: list(value.shape) for key, value in feeds.items()},
        "warmup": asked.warmup,
        "runs": asked.runs,
        "methods": list(rows.values()),
        "environment": machine.environment(threads, versions(*PACKAGES, *PEER_PACKAGES)),
    }
    for path in (workspace.folder / FILE, *([record] if record else [])):
        records.add(path, table, "checkpoint", "batch")
    return table


def shape_recipe(
    model: str,
    name: str,
    output: Path | None,
    settings: dict[str, Any],
    announce: Callable[[str], None],
    backend: str | None = None,
) -> Recipe:
    """Returns the recipe of a random checkpoint of a published shape, its engines built.

    backend: the only one to build for, or "auto"; None: every one that works here.
    """
    from pipeline import backends
    from pipeline.bench import shapes
    from pipeline.stages.build import build

    shapes.require_family(name, model)
    folder = output or shapes.folder(name)
    made = {"folder": folder, **shapes.settings(name, folder), **settings}
    for asked in backends.usable() if backend is None else [backend]:
        recipe = Recipe.load(model, overrides={**made, "backend": asked})
        build(recipe, announce=announce)
    return recipe


def prepared(
    method: methods.Method,
    workspace: Workspace,
    area: Path,
    threads: int,
    feeds: dict[str, Any],
    judged: Callable[[methods.Runner], dict[str, Any]],
) -> tuple[methods.Runner, dict[str, Any]]:
    """Returns a method ready to be timed on `feeds`, and its accuracy."""
    method.build(workspace, area)
    runner = method.load(workspace, area, threads)
    methods.prepare(runner, feeds)
    return runner, judged(runner)


def compare(task: Any, reference: Reference, runner: methods.Runner) -> dict[str, Any]:
    """Returns {metric, float, value, agreement, cosine} of one method on held-out samples, one at a time."""
    from pipeline.judge.evaluation import one_by_one

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
