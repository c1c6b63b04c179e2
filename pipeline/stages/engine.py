"""engine: QDQ graphs become the runtime's own files; the fastest engine that is sound and within the budgets is kept.

One backend and precision is built alone, and refused where it does not compute its graph. Where there is a choice (the
precisions of a backend, or with BACKEND=auto int8 and the rewritten float model on every CPU backend) all are built,
checked and timed in turns: never an int8 engine that is slower than float, never nothing while one of them is right.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import backends
from pipeline.backends import RECORD, Backend
from pipeline.errors import EngineRefused, PipelineError
from pipeline.judge import candidates
from pipeline.judge.candidates import NEAR, Candidate
from pipeline.judge.evaluation import EXACT, PROBES, Reference, one_by_one
from pipeline.judge.evaluation import FILE as REFERENCE
from pipeline.judge.soundness import Expected, check, faults
from pipeline.judge.soundness import rows as rows_of
from pipeline.lowering import document
from pipeline.measure import machine, processor
from pipeline.run import Run
from pipeline.stages.code import code_digest

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.judge.parity import Parity
    from pipeline.recipe import Recipe

log = logging.getLogger(__name__)

NAME = "engine"
FLOAT_GRAPH = "model.onnx"
FOLDER = ".candidates"
FIRST_ROUNDS = 6  # of all; then of those within NEAR of the fastest
LONGEST = 6.0  # seconds for which those are timed, where the rounds asked for would take longer


def tried(run: Run) -> list[Backend]:
    """Returns the backends that engines are built for: of those to try the ones that have a QDQ graph, if any has."""
    return [b for b in run.tried if run.digest(f"{b.NAME}/model.qdq.onnx")] or list(run.tried)


def variants(run: Run) -> list[tuple[Backend, str]]:
    """Returns what is built: (backend, precision), the backend that is preferred first."""
    return [(backend, precision) for backend in tried(run) for precision in backend.precisions(run.recipe)]


def inputs(run: Run) -> dict[str, Any]:
    """Returns everything the engine depends on, the machine's load excepted."""
    recipe = run.recipe
    found: dict[str, Any] = {"backend": recipe.backend, "processor": machine.processor_class()}
    for backend in tried(run):
        own_float = backends.own_float_graphs(backend, recipe)
        graphs = ["model.qdq.onnx", EXACT, *(f"model.{precision}.onnx" for precision in own_float)]
        found.update({f"{backend.NAME}/{file}": run.digest(f"{backend.NAME}/{file}") for file in graphs})
        found.update({f"version {package}": version for package, version in backend.version().items()})
        found.update(backend.settings(recipe))
    if len(variants(run)) > 1:
        found[FLOAT_GRAPH] = run.digest(FLOAT_GRAPH)
        found["budgets"] = recipe.budgets.model_dump()
        found["verification"] = recipe.verification.model_dump()
    return {**found, "reference": run.digest(REFERENCE), "code": code_digest(__name__, run.sha256)}


def outputs(run: Run) -> list[str]:
    """Returns the files of the backend; none for "auto", whose record says which it chose."""
    first, *others = run.tried
    return [] if others else [f"{first.NAME}/{file}" for file in (*first.FILES, RECORD)]


def make(run: Run, area: Path) -> None:
    """Writes the engine and engine.json.

    Raises EngineRefused, and leaves the earlier files as they are, where no engine may ship.
    """
    reference = Reference.read(run.workspace)
    built = [Built.make(backend, precision, run, reference, area) for backend, precision in variants(run)]
    if len(built) == 1:
        refuse(built[0])
        chosen, rows = built[0], [Candidate(built[0].backend.NAME, built[0].precision).to_json(chosen=True)]
    else:
        chosen, rows = fastest(built, run, reference)
    name = chosen.backend.NAME
    record = {
        "backend": name,
        "precision": chosen.precision,
        "processor": machine.processor_class(),
        "saturation": None if chosen.precision != "int8" else document.saturation(run.workspace, name),
        "qdq_sha256": run.digest(f"{name}/model.qdq.onnx"),
        "versions": chosen.backend.version(),
        "build_seconds": round(chosen.seconds, 3),
        "parity": {"samples": min(PROBES, reference.samples), "outputs": rows_of(chosen.parity)},
        "candidates": rows,
    }
    chosen.folder.rename(area / name)
    shutil.rmtree(area / FOLDER)
    (area / name / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")


@dataclass(frozen=True)
class Built:
    """An engine in a folder of its own, checked against its graph; where `engine` is None, `fault` says why."""

    backend: Backend
    precision: str
    folder: Path
    seconds: float
    engine: backends.Engine | None
    parity: Mapping[str, list[Parity]]
    fault: str | None

    @classmethod
    def make(cls, backend: Backend, precision: str, run: Run, reference: Reference, area: Path) -> Built:
        """Builds, loads and checks one engine; what is wrong with it is in `fault`."""
        recipe, workspace, name = run.recipe, run.workspace, backend.NAME
        folder = area / FOLDER / f"{name}-{precision}"
        qdq = workspace.path(f"{name}/model.qdq.onnx")
        graph = qdq if precision == "int8" or backend.OWN_FLOAT_GRAPHS else workspace.path(FLOAT_GRAPH)
        expected = Expected.read(workspace, name, precision, reference)
        start = time.perf_counter()
        try:
            if precision == "int8":
                admit(workspace, backend, graph)
            backends.build(backend, graph, folder, recipe, precision)
            seconds = time.perf_counter() - start
            log.info("engine: %s %s built in %.1f s, checking it against the graph", name, precision, seconds)
            engine = backend.load(folder, recipe.verification.threads)
            parity = check(engine, expected, reference, max(recipe.shapes.batches))
            return cls(backend, precision, folder, seconds, engine, parity, "; ".join(faults(parity)) or None)
        except EngineRefused as error:
            fault = str(error)
        except (PipelineError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 -- whatever a runtime raises is a fault of its engine
            fault = f"{name} cannot run the engine that it built: {backends.said(error)}"
        return cls(backend, precision, folder, time.perf_counter() - start, None, {}, fault)


def admit(workspace: Workspace, backend: Backend, graph: Path) -> None:
    """Raises EngineRefused for a graph whose sums may saturate on this processor."""
    if backend.ON_GPU:
        return
    found, here = document.saturation(workspace, backend.NAME), machine.processor_class()
    if not processor.right_on(found, here):
        raise EngineRefused(
            f"{processor.risk(found)} of {graph} may saturate on this processor ({here}); "
            f"{workspace.again('--from', 'lower')} here, which needs no torch, or make it elsewhere with "
            "--set lowering.any_cpu=true"
        )


def fastest(built: Sequence[Built], run: Run, reference: Reference) -> tuple[Built, list[dict[str, Any]]]:
    """Returns the engine that ships, and a row for every engine. Raises EngineRefused where none may ship."""
    from pipeline.judge import verdict
    from pipeline.judge.accuracy import accuracy

    task = run.task
    budgets = verdict.budgets(run.recipe.budgets, task)
    by_label = {f"{b.backend.NAME} {b.precision}": b for b in built}

    def judge(candidate: Candidate) -> candidates.Verdict:
        engine = by_label[candidate.label].engine
        assert engine is not None
        if candidate.precision == "fp32":
            return None, None  # its parity is with the float model itself
        found = one_by_one(engine, reference.inputs, f"{candidate.label} on held-out samples")
        section = accuracy(task, reference, found)[0]
        kept = {key: section[key] for key in ("metric", "engine", "relative_drop", "agreement", "sqnr_db")}
        return kept, "; ".join(verdict.accuracy_reasons(section, budgets)) or None

    times = timed({label: b.engine for label, b in by_label.items() if b.engine and not b.fault}, reference, run.recipe)
    chosen, found = candidates.ship(
        [Candidate(b.backend.NAME, b.precision, tuple(times.get(n, ())), b.fault) for n, b in by_label.items()], judge
    )
    for c in found:
        log.info("engine: %s %s", c.label, c.fault or f"{1e3 * c.median:.3f} ms{' ships' if c is chosen else ''}")
    return by_label[chosen.label], [c.to_json(chosen=c is chosen) for c in found]


def timed(engines: Mapping[str, backends.Engine], reference: Reference, recipe: Recipe) -> dict[str, list[float]]:
    """Returns the seconds of runs on one sample, in turns: few of all engines, more of those that may be fastest."""
    from pipeline.measure import latency

    feeds = reference.first(1).inputs
    for engine in engines.values():
        engine.prepare({name: x.shape for name, x in feeds.items()})
    calls = {label: partial(engine, feeds) for label, engine in engines.items()}
    asked = recipe.verification
    if not calls:
        return {}
    times = latency.interleave(calls, warmup=asked.warmup, runs=min(FIRST_ROUNDS, asked.runs))
    medians = {label: latency.quantile(seconds, 0.5) for label, seconds in times.items()}
    near = {label: calls[label] for label, median in medians.items() if median <= NEAR * min(medians.values())}
    if len(near) == 1:
        return times
    start = time.perf_counter()

    def enough(found: latency.Times) -> bool:
        rounds = len(next(iter(found.values())))
        return rounds > FIRST_ROUNDS and time.perf_counter() - start > LONGEST

    # one round more than before at least: as many rounds are what says that engines were timed in turns
    rounds = max(FIRST_ROUNDS + 1, asked.runs)
    return {**times, **latency.interleave(near, warmup=0, runs=rounds, enough=enough)}


def refuse(built: Built) -> None:
    """Raises EngineRefused naming every output that is wrong."""
    if built.engine is None:
        raise EngineRefused(str(built.fault))
    wrong = faults(built.parity)
    if wrong:
        others = [name for name in backends.usable() if name != built.backend.NAME]
        raise EngineRefused(
            f"the {built.backend.NAME} engine does not compute its QDQ graph and is refused; earlier artifacts are "
            "unchanged:\n  "
            + "\n  ".join(wrong)
            + f"\nUse BACKEND={' or '.join(others) or '…'}, keep the family's rewrites on, or switch off the "
            "quantizers before the operator at fault (--set placement.disable=…)."
        )
