"""verify: the engine against the float model in ONNX Runtime, on held-out data; writes either verdict."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import backends, distributed
from pipeline.backends import RECORD, Backend
from pipeline.errors import ArtifactError
from pipeline.judge import candidates, verdict
from pipeline.judge.accuracy import accuracy, batches, finite
from pipeline.judge.evaluation import FILE as REFERENCE
from pipeline.judge.evaluation import PROBES, Reference, one_by_one, read_json
from pipeline.judge.reference import CUDA, Session, float_graphs, float_session
from pipeline.judge.reference import missing as reference_missing
from pipeline.judge.soundness import Expected, Whole, check, faults, rows
from pipeline.measure import latency, machine, processor
from pipeline.measure.versions import PACKAGES, versions
from pipeline.progress import track
from pipeline.report import schema, sections
from pipeline.run import Run
from pipeline.stages.code import code_digest
from pipeline.stages.history import earlier_stages, this_stage

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.backends import Array, Engine
    from pipeline.recipe import Recipe

log = logging.getLogger(__name__)

NAME = "verify"
EXAMPLES = 8
MORE = 2  # times the rounds asked for, on top of them, where these leave open whether the speed budget is met


def inputs(run: Run) -> dict[str, Any]:
    """Returns everything the report depends on, the machine's load excepted."""
    recipe, backend = run.recipe, run.backend
    files = [f"{backend.NAME}/{file}" for file in (*backend.FILES, RECORD, "model.qdq.onnx")]
    files += ["model.onnx", "original.onnx", REFERENCE, "quantizers.json", "calibration.json"]
    files += ["preprocessor_config.json"]  # whose size the report holds beside the engine's
    return {
        "backend": backend.NAME,
        **{file: run.digest(file) for file in files},
        "budgets": recipe.budgets.model_dump(),
        "verification": recipe.verification.model_dump(),
        "batches": list(recipe.shapes.batches),
        "method": recipe.calibration.method,
        "percentile": recipe.calibration.percentile,
        "code": code_digest(__name__, run.sha256),
        **versions("numpy", "onnxruntime"),
        **{f"version {package}": found for package, found in backend.version().items()},
    }


def outputs(run: Run) -> list[str]:
    """Returns the reports."""
    return [f"{run.backend.NAME}/report.json", "report.json", "report.html"]


def make(run: Run, area: Path) -> None:
    """Writes <backend>/report.json, report.json and report.html, whatever the verdict."""
    from pipeline.report import page

    start = time.perf_counter()
    recipe, workspace, task, backend = run.recipe, run.workspace, run.task, run.backend
    name = backend.NAME
    record = built_from_present_graph(workspace, name)
    reference = Reference.read(workspace)
    budgets = verdict.budgets(recipe.budgets, task)
    floats, missing = float_sessions(workspace, run.threads, on_gpu=backend.ON_GPU)
    engine = ready(run, reference)
    whole = Whole(engine, reference.outputs)
    found = shared_one_by_one(whole, reference.inputs, f"{name} on held-out samples")
    expected = Expected.read(workspace, name, record["precision"], reference)
    parity = check(engine, expected, reference, max(recipe.shapes.batches))
    scores, predictions, float_predictions = accuracy(task, reference, found, proof=True)
    precision_report = engine.precision_report(reference.first(1).inputs)
    sizes = with_one_between(recipe.shapes.batches)
    report: dict[str, Any] = {
        "model": recipe.model,
        "checkpoint": recipe.checkpoint or "embedded",
        "family": recipe.family,
        "recipe": recipe.recorded(),
        "task": run.about["task"],
        "backend": name,
        "precision": record["precision"],
        "judged": judged_files(workspace, backend),
        "held_out": reference.digest(),
        "verdict": "pass",
        "reasons": [],
        "notes": verdict.notes(scores, budgets),
        "budgets": budgets.model_dump(),
        "accuracy": scores,
        "latency": timing(recipe, floats, missing, reference, engine, run.threads),
        "batches": batches(task, reference, whole, found, sizes, expected.limits),
        "size": sections.sizes(workspace, name),
        "image_size": sections.image_size(run),
        "precision_report": precision_report,
        "parity": {"samples": min(PROBES, reference.samples), "outputs": rows(parity), "faults": faults(parity)},
        "processor": None if backend.ON_GPU else built_on(record),
        "candidates": record["candidates"],
        "instead": candidates.refusal(record["candidates"]),
        "calibration": sections.calibration(run),
        "environment": machine.environment(run.threads, versions(*PACKAGES)),
        "stages": [*earlier_stages(run, NAME), this_stage(NAME, start)],
        "run_seconds": workspace.seconds(),
    }
    report["reasons"] = [*whole.faults, *verdict.reasons(report, budgets)]
    for said in (*report["reasons"], *report["notes"]):
        log.info("verify: %s", said)
    report["verdict"] = "fail" if report["reasons"] else "pass"
    report = finite(report)
    schema.validate(report)
    text = json.dumps(report, indent=1, allow_nan=False)
    (area / name).mkdir(parents=True, exist_ok=True)
    for file in (f"{name}/report.json", "report.json"):
        (area / file).write_text(text, encoding="utf-8")
    shown = task.examples(reference.inputs, reference.labels, float_predictions, predictions, EXAMPLES)
    classes = [str(x) for x in reference.labels.get("class_names", ())]
    page.render(report, workspace, area, examples=shown, class_names=classes)


def assist(run: Run) -> None:
    """Runs this rank's share of the held-out samples; timing, batches and the report are rank 0's alone."""
    name = run.backend.NAME
    built_from_present_graph(run.workspace, name)
    reference = Reference.read(run.workspace)
    engine = ready(run, reference)
    shared_one_by_one(Whole(engine, reference.outputs), reference.inputs, f"{name} on held-out samples")


def ready(run: Run, reference: Reference) -> Engine:
    """Returns the checked engine, prepared for single samples."""
    engine = backends.load_checked(run.workspace, run.backend.NAME, run.threads)
    engine.prepare({n: x[:1].shape for n, x in reference.inputs.items()})
    return engine


def shared_one_by_one(engine: Engine | Whole, inputs: dict[str, Array], label: str) -> dict[str, Array]:
    """Returns the outputs of all samples, one at a time, each computed by one of the ranks; on the others their own."""
    import numpy as np

    mine = {name: x[distributed.share()] for name, x in inputs.items()}
    count, size = len(next(iter(inputs.values()))), distributed.world().size
    parts = distributed.gather(one_by_one(engine, mine, label) if len(next(iter(mine.values()))) else {})
    if len(parts) == 1:
        return parts[0]
    found = {n: np.empty((count, *x.shape[1:]), x.dtype) for n, x in parts[0].items()}
    for rank, part in enumerate(parts):
        for name, x in part.items():
            found[name][rank::size] = x
    return found


def built_on(record: Mapping[str, Any]) -> dict[str, str]:
    """Returns the class of processors that a CPU's engine was built and timed on, and those that it is right on."""
    int8 = record["precision"] == "int8"
    right = processor.kind(record["saturation"]) if int8 else processor.EVERY
    return {"built_on": record["processor"], "right_on": right}


def judged_files(workspace: Workspace, backend: Backend) -> dict[str, str]:
    """Returns {file: sha256} of the engine that a report is about: another one has no verdict."""
    files = [f"{backend.NAME}/{file}" for file in (*backend.FILES, RECORD)]
    return {file: workspace.manifest.files[file]["sha256"] for file in files}


def built_from_present_graph(workspace: Workspace, name: str) -> dict[str, Any]:
    """Returns engine.json. Raises ArtifactError when the QDQ graph was written again after the engine."""
    record = read_json(workspace, f"{name}/{RECORD}")
    if record["qdq_sha256"] != workspace.digest(f"{name}/model.qdq.onnx"):
        raise ArtifactError(
            f"the {name} engine was built from another {name}/model.qdq.onnx than the present one; "
            f"{workspace.again(file=f'{name}/{RECORD}')}."
        )
    return record


def float_sessions(workspace: Workspace, threads: int, *, on_gpu: bool) -> tuple[dict[str, Session], str | None]:
    """Returns the float models in ONNX Runtime, for timing; none, and the reason, on a machine without it.

    Accuracy is judged without them: against the float outputs that the export stage stored.
    """
    reason = reference_missing()
    if reason is not None:
        log.warning("the latency of float ONNX Runtime is not measured: %s", reason)
        return {}, reason
    floats = {n: float_session(path, threads, on_gpu=on_gpu) for n, path in float_graphs(workspace).items()}
    if on_gpu and floats["float_ort"].provider != CUDA:
        log.warning("float ONNX Runtime has no CUDA here and runs on the CPU (pip install onnxruntime-gpu).")
    return floats, None


def timing(
    recipe: Recipe,
    floats: dict[str, Session],
    missing: str | None,
    reference: Reference,
    engine: Engine,
    threads: int,
) -> dict[str, Any]:
    """Returns the `latency` section: batch 1, engine and float ONNX Runtime in turns; the recipe's runs at most.

    Without float models `float_ort` and `speedup` are None, and `not_compared` says why.
    """
    feeds = reference.first(1).inputs
    asked = recipe.verification
    models: dict[str, Any] = {**floats, "engine": engine}
    calls = {n: partial(model, feeds) for n, model in models.items()}
    times = latency.interleave(
        calls,
        warmup=asked.warmup,
        runs=asked.runs,
        progress=lambda rounds: track(rounds, "timing", asked.warmup + asked.runs),
        enough=partial(latency.is_tight, base="float_ort", other="engine") if floats else lambda _: False,
    )
    budget = recipe.budgets.speedup
    if floats and latency.straddles(latency.speedup(times["float_ort"], times["engine"]), budget):
        log.info("verify: the speed-up may be above or below the budget of %g; timing on", budget)
        more = latency.interleave(calls, warmup=0, runs=MORE * asked.runs)
        times = {n: [*seconds, *more[n]] for n, seconds in times.items()}
    alone = {"float_ort": None, "engine": latency.summary(times["engine"]), "speedup": None}
    return {
        "batch": 1,
        "shape": list(next(iter(feeds.values())).shape),
        "inputs": {n: list(x.shape) for n, x in feeds.items()},
        "threads": threads,
        "warmup": asked.warmup,
        "runs": len(times["engine"]),
        "runs_asked": asked.runs,
        **(latency.report(times, "float_ort", "engine") if floats else alone),
        "float_provider": floats["float_ort"].provider if floats else None,
        "not_compared": missing,
        "samples": {n: [round(1e3 * x, 4) for x in values] for n, values in times.items()},
    }


def with_one_between(sizes: Sequence[int]) -> list[int]:
    """Returns the batch sizes and one that nobody listed, in the middle of the widest gap, where there is a gap."""
    listed = sorted(sizes)
    low, high = max(pairwise(listed), key=lambda pair: pair[1] - pair[0], default=(0, 0))
    middle = (low + high) // 2
    return listed if middle in (low, high) else sorted([*listed, middle])
