"""`place`: the fastest placement within the accuracy budgets, found by measuring, becomes the family's default.

Accuracy is judged on the selection split of the recipe's own checkpoint, which neither calibration nor the verdict
sees. Latency is that of the same checkpoint or, with a shape, of a random checkpoint of that shape: two folders then.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pipeline import backends, stages
from pipeline.backends._policy import Policy
from pipeline.bench import published, results
from pipeline.bench.place.engines import BuiltEngines, Side
from pipeline.bench.place.search import moves, search
from pipeline.bench.place.trials import Candidate, Kinds, Trial, misses
from pipeline.errors import InputError
from pipeline.judge import verdict
from pipeline.lowering import placement, selection, stored
from pipeline.lowering.stored import in_order
from pipeline.measure import latency
from pipeline.model import loading, samples
from pipeline.recipe import Budgets, Recipe
from pipeline.run import Run
from pipeline.stages.build import locked

log = logging.getLogger(__name__)

FILE = "place.json"
ROUNDS = 100


def run(
    recipe: Recipe,
    *,
    shape: str | None = None,
    rounds: int = ROUNDS,
    command: str = "",
    announce: Callable[[str], None] = log.info,
) -> dict[str, Any]:
    """Returns the table of a search, and writes it to <backend>/place.json in the recipe's folder.

    shape: what latency is measured on, None for the recipe's own checkpoint; rounds: timed runs of each engine;
    command: what the table says it came from. The stages that make candidates run first. Raises EngineRefused where the
    default placement itself is refused.
    """
    backend = backends.choose(recipe.backend)
    recipe = recipe.on_backend(backend)
    run = Run.of(recipe)
    timed = Run.of(shaped(recipe, shape)) if shape else run
    with ExitStack() as held:
        for made in (run,) if timed is run else (run, timed):
            held.enter_context(locked(made.recipe))
            stages.run_before("lower", made, announce=announce)
        area = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="place-")))
        table = results.document(
            command,
            run.threads,
            model=recipe.model,
            checkpoint=recipe.checkpoint_name,
            family=recipe.family,
            backend=backend,
            shape=shape,
            **searched(run, timed, rounds, area),
        )
        results.write(table, recipe.folder / backend / FILE)
    return table


def shaped(recipe: Recipe, shape: str) -> Recipe:
    """Returns the recipe of a random checkpoint of a published shape, beside the recipe's own folder.

    Raises InputError for a shape that does not exist or is another family's.
    """
    folder = recipe.folder.parent / published.folder(shape).name
    if folder == recipe.folder:
        raise InputError(f"{folder} is the shape's own folder; accuracy needs another checkpoint's --output.")
    own = {
        "backend": recipe.backend,
        "rewrites": recipe.rewrites,
        "shapes": recipe.shapes.model_dump(),
        "placement": recipe.placement.model_dump(),
        "calibration.percentile": recipe.calibration.percentile,
        "verification.threads": recipe.verification.threads,
    }
    return published.recipe(shape, folder, own, recipe.family)


def searched(run: Run, timed: Run, rounds: int, area: Path) -> dict[str, Any]:
    """Returns what the search found, with everything it tried."""
    recipe = run.recipe
    source = loading.open_source(recipe)
    limits = verdict.budgets(recipe.budgets, source.task)
    held_out = samples.selection(run.with_recipe(selection.automatic(recipe)), source)
    judged = Side(run, area / "judged")
    side = judged if timed is run else Side(timed, area / "timed")
    engines = BuiltEngines(judged, side, selection.choice_of(run), source.task, held_out, rounds)
    start = placement.default(run.backend.NAME, recipe.family).policy.kinds
    best, trials = search(start, moves(judged.candidates.quantizers), engines, limits)
    times = gain(engines, start, best)
    kept = contradiction(trials[0].candidate, times["speedup"], limits)
    if kept:
        best, times = trials[0].candidate, {**times, "winner": times["default"], "speedup": None}
    return {
        "inputs": results.shapes_of(engines.feeds),
        "rounds": rounds,
        "placement": recipe.placement.model_dump(mode="json"),
        "budgets": limits.model_dump(),
        "default": in_order(start),
        "winner": in_order(best.kinds),
        "kept": kept,
        "missed": misses(best.judged, limits),
        "accuracy": dict(best.judged),
        "latency": times,
        "rows": [row(trial) for trial in trials],
    }


def gain(engines: BuiltEngines, start: Kinds, best: Candidate) -> dict[str, Any]:
    """Returns the latency of the default and of the winner, timed once more in turns; speedup: None for the same."""
    if best.kinds == start:
        seconds = engines.time({"winner": best})["winner"]
        return {"default": latency.summary(seconds), "winner": latency.summary(seconds), "speedup": None}
    return latency.report(engines.time({"default": engines.make(start), "winner": best}), "default", "winner")


def contradiction(start: Candidate, ratio: Mapping[str, float] | None, limits: Budgets) -> str | None:
    """Returns why the default is kept though a search took others: the last word has a measurement against it."""
    if ratio is None or ratio["high"] >= 1 or misses(start.judged, limits):
        return None
    return f"what the search took is slower than the default: {ratio['median']:.3f}x; was the machine busy?"


def row(trial: Trial) -> dict[str, Any]:
    """Returns a trial as the table has it."""
    found = trial.candidate
    return {
        "round": trial.round,
        "toggled": list(trial.move),
        "on": None if not trial.move else not trial.off,
        "kinds": in_order(found.kinds),
        "refused": found.fault,
        "accuracy": dict(found.scores) if found.scores else None,
        "latency": trial.latency,
        "speedup": trial.speedup,
        "again": trial.again,
        "taken": trial.taken,
        "why": trial.why,
    }


def store(table: Mapping[str, Any], *, project: bool = False) -> Path:
    """Returns the file of the backend's placements, which now holds the winner with the measurement behind it.

    project: among the project's own, in a source checkout; else among the user's.
    """
    environment = table["environment"]
    tried = [
        {key: r[key] for key in ("round", "toggled", "on", "speedup", "taken", "why")}
        for r in table["rows"]
        if r["round"]
    ]
    measured = {
        **{key: table[key] for key in ("command", "shape", "checkpoint", "inputs", "rounds", "default", "placement")},
        **{key: environment[key] for key in ("date", "cpu", "processor", "cpu_flags", "threads")},
        "version": {n: v for n, v in environment["versions"].items() if n == table["backend"]},
        "latency": table["latency"],
        "accuracy": table["accuracy"],
        "tried": tried,
    }
    policy = Policy(frozenset(table["winner"]))
    folder = stored.PROJECT if project else stored.user_folder()
    return stored.store(folder, table["backend"], table["family"], environment["processor"], policy, measured)
