"""What quantization costs in accuracy: every calibration method, with and without migration, beside the peers."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import backends, stages, tasks
from pipeline.artifacts import Workspace
from pipeline.bench import methods, results, timing
from pipeline.judge import verdict
from pipeline.judge.evaluation import Reference, read_json
from pipeline.lowering import Choice, selection
from pipeline.measure import latency, machine
from pipeline.run import Run

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

log = logging.getLogger(__name__)

FILE = "compare.json"
WARMUP, RUNS = 10, 300
BEFORE = ("quantize", "calibrate", "export", "select")  # the stages whose artifacts are compared


def run(
    recipe: Recipe, *, record: Path | None = None, command: str = "", announce: Callable[[str], None] = log.info
) -> dict[str, Any]:
    """Returns the table of a recipe's calibration methods on its held-out samples, and writes it to compare.json.

    record: another file to write it to, for the README; command: what the table says it came from. Methods that `auto`
    chooses are chosen on the selection split and, like all others, judged on the evaluation split.
    """
    recipe = recipe.on_backend(backends.choose(recipe.backend))
    automatic = selection.automatic(recipe)
    run = Run.of(automatic)
    for name in BEFORE:
        stages.run(name, run, announce=announce)
    workspace, task = run.workspace, run.task
    reference = Reference.read(workspace)
    limits = verdict.budgets(recipe.budgets, task)
    with tempfile.TemporaryDirectory(prefix="compare-") as scratch:
        scorer = selection.Scorer(run, reference, Path(scratch))
        ours = list(selection.score_all(scorer, automatic))
        selected = read_json(workspace, f"{automatic.backend}/{selection.FILE}")["rows"]
        best = selection.rank(selected, limits)[0]
        cost = migration_cost(scorer, best, reference, Path(scratch)) if best["migration"] else None
        peers = list(peer_rows(workspace, task, reference, Path(scratch)))
    table = results.document(
        command,
        run.threads,
        packages=results.WITH_PEERS,
        model=automatic.model,
        checkpoint=automatic.checkpoint_name,
        backend=automatic.backend,
        metric=task.METRIC,
        float=ours[0]["float"],
        samples={
            "calibration": tasks.counts(automatic, task.SAMPLES)["calibration"],
            "evaluation": reference.samples,
        },
        budgets=limits.model_dump(),
        methods=ours,
        auto=[chosen(selected, ours, migration, limits) for migration in (False, True)],
        migration_cost=cost,
        peers=peers,
    )
    results.write(table, workspace.folder / FILE, record)
    return table


def migration_cost(
    scorer: selection.Scorer, row: Mapping[str, Any], reference: Reference, scratch: Path
) -> dict[str, Any]:
    """Returns what migration costs in time: the same method's engine with it and without, batch 1, in turns.

    ratio: latency with over latency without, the median of pairs with its 95 % interval.
    """
    feeds = reference.first(1).inputs
    engines = {
        name: scorer.engine(Choice(row["method"], row["percentile"], moved), scratch / name)
        for name, moved in (("without", False), ("with", True))
    }
    times = timing.on_same(feeds, engines, warmup=WARMUP, runs=RUNS)
    return {
        "method": row["label"],
        "runs": RUNS,
        **{name: latency.summary(seconds) for name, seconds in times.items()},
        "ratio": latency.speedup(times["with"], times["without"]),
    }


def chosen(
    scored: list[dict[str, Any]], judged: list[dict[str, Any]], migration: bool, budgets: Any
) -> dict[str, Any] | None:
    """Returns the held-out score of what `auto` takes, with migration allowed or not; None where it is forbidden."""
    allowed = [row for row in scored if migration or not row["migration"]]
    if migration and not any(row["migration"] for row in scored):
        return None
    label = selection.rank(allowed, budgets)[0]["label"]
    return next(row for row in judged if row["label"] == label)


def peer_rows(workspace: Workspace, task: Any, reference: Reference, scratch: Path) -> list[dict[str, Any]]:
    """Returns a row per peer: its accuracy on the same samples, or why there is none."""
    threads = machine.usable_cores()

    def scores(method: methods.Method, area: Path) -> dict[str, Any]:
        return selection.scores(task, reference, method.make(workspace, area, threads), method.label)

    rows = []
    for name, method in methods.found().items():
        if method.peer:
            log.info("compare: %s", method.label)
            found, skipped = methods.attempt(method, partial(scores, method, scratch / name))
            rows.append({"method": name, "label": method.label, "skipped": skipped, **(found or {})})
    return rows
