"""One step of gpu-test, called in a process of its own: an engine built and judged, or all engines of a model timed.

What a process that died has done to the GPU's context is nobody else's then.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import tasks
from pipeline.artifacts import Workspace
from pipeline.backends._tensorrt import plan
from pipeline.bench import timing
from pipeline.bench.gpu_test.subjects import Subject
from pipeline.bench.methods.tensorrt import MADE
from pipeline.errors import PipelineError
from pipeline.judge import verdict
from pipeline.judge.accuracy import accuracy, batches, finite
from pipeline.judge.evaluation import Reference, one_by_one, read_json
from pipeline.judge.soundness import Expected, Whole, check, faults, rows
from pipeline.measure import gpu
from pipeline.measure.process import ProcessFault

if TYPE_CHECKING:
    from pipeline.backends import Engine
    from pipeline.recipe import Recipe

PLANS = ".gpu-test"  # folder of plans in an artifact folder
WARMUP = 3
LONGEST = 2000  # characters of a fault
SHOWN = 20  # names of Q/DQ layers that a row lists
SUMS = ("int8_ops", "float_ops", "unknown_ops", "int8_flop_share", "unknown_flop_share")
SCORES = ("metric", "float", "engine", "relative_drop", "agreement", "sqnr_db", "samples")


def area(folder: Path, method: str) -> Path:
    """Returns where a method's plan lies."""
    return folder / PLANS / method


def judge(folder: str, name: str, layers: str | None) -> dict[str, Any]:
    """Returns what a row says of an engine after building it: {build, faults, parity, batches, accuracy, inspector}.

    A plan that is there already is taken; one that does not compute its graph is not kept. layers: a folder
    for the whole of what the inspector tells, None for the sums alone.
    """
    subject = Subject(Path(folder))
    method, workspace, place = subject.methods[name], subject.workspace, area(Path(folder), name)
    method.build(workspace, place)
    engine: Any = method.load(workspace, place, 1)
    reference = Reference.read(workspace)
    files = {"seconds": json.loads((place / MADE).read_text(encoding="utf-8"))["seconds"]}
    files |= {"plan_bytes": (place / plan.PLAN).stat().st_size, "graph_sha256": plan.read(place).graph_sha256}
    expected = method.expected(workspace, place, reference)
    judged = judgement(engine, expected, reference, workspace, subject.recipe)
    if judged["faults"]:
        shutil.rmtree(place)
    sizes = sorted({1, max(subject.recipe.shapes.batches)})
    told = {size: engine.precision_report(reference.first(size).inputs) for size in sizes}
    if layers is not None:
        Path(layers).mkdir(parents=True, exist_ok=True)
        for size, report in told.items():
            (Path(layers) / f"{subject.name}.{name}.{size}.json").write_text(json.dumps(report), encoding="utf-8")
    made: dict[str, Any] = finite(
        {"build": files, **judged, "inspector": [inspected(size, report) for size, report in told.items()]}
    )
    return made


def judgement(
    engine: Engine, expected: Expected, reference: Reference, workspace: Workspace, recipe: Recipe
) -> dict[str, Any]:
    """Returns {faults, parity, batches, accuracy} of an engine, as verify judges one.

    accuracy: `missed` are the budgets that it misses, and why its samples prove nothing.
    """
    task = tasks.get(read_json(workspace, "quantizers.json")["task"])
    whole, sizes = Whole(engine, reference.outputs), recipe.shapes.batches
    found = one_by_one(whole, reference.inputs, "running the engine")
    parity = check(engine, expected, reference, max(sizes))
    scores, *_ = accuracy(task, reference, found, proof=True)
    budgets = verdict.budgets(recipe.budgets, task)
    missed = [*verdict.cannot_judge(scores, budgets), *verdict.accuracy_reasons(scores, budgets)]
    by_batch = batches(task, reference, whole, found, sizes, expected.limits)
    return {
        "faults": [*whole.faults, *faults(parity)],
        "parity": rows(parity),
        "batches": by_batch,
        "accuracy": {**{key: scores[key] for key in SCORES}, "missed": missed},
    }


def inspected(size: int, report: dict[str, Any]) -> dict[str, Any]:
    """Returns the sums of the engine inspector's report at one batch size."""
    alone = report["quantize_layers"]
    sums = {key: report[key] for key in SUMS}
    return {
        "batch": size, **sums, "unfused": len(alone), "unfused_names": alone[:SHOWN], "reformats": report["reformats"]
    }  # fmt: skip


def time_all(folder: str, batch: int, names: Sequence[str], rounds: int) -> dict[str, Any]:
    """Returns {calls, rounds, ms: {method: a value a round}, faults: {method: why it does not run}, clocks}.

    Inputs and outputs lie on the GPU: what is timed is no copy.
    """
    subject, before = Subject(Path(folder)), gpu.query()
    feeds = Reference.read(subject.workspace).first(batch).inputs
    several, wrong = {}, {}
    for name in names:
        try:
            engine: Any = subject.methods[name].make(subject.workspace, area(Path(folder), name), 1)
            several[name] = engine.resident(feeds)
        except Exception as error:  # noqa: BLE001 -- whatever a runtime raises: memory may not do for all of them
            wrong[name] = reason(error)
    calls, times = timing.in_a_row(several, warmup=WARMUP, runs=rounds, what=f"{subject.name}, batch {batch}")
    ms = {name: [round(1e3 * seconds, 5) for seconds in found] for name, found in times.items()}
    clocks = {"before": before, "after": gpu.query()}
    return {"calls": calls, "rounds": rounds, "ms": ms, "faults": wrong, "clocks": clocks}


def reason(error: Exception) -> str:
    """Returns what a fault says, with its class where it is none of ours."""
    text = str(error) if isinstance(error, PipelineError | ProcessFault) else f"{type(error).__name__}: {error}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
