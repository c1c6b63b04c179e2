"""Calibration side by side: time and memory of collecting and of computing, ours and others', checked for equality."""

from __future__ import annotations

import importlib
import logging
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pipeline.backends import missing_package
from pipeline.bench import results
from pipeline.bench.calibration_cost import rows
from pipeline.bench.calibration_cost.workload import Workload
from pipeline.bench.methods._peers import INSTALL
from pipeline.errors import BackendUnavailable, BudgetMissed, PipelineError
from pipeline.measure.process import ProcessFault, call

log = logging.getLogger(__name__)

PACKAGES = ("torch", "transformers", "numpy", "pytorch-quantization", "nvidia-modelopt", "onnxruntime")
PEER_SECONDS = 1800  # a peer that takes longer becomes a row that says so
CASES = {  # name: the function that measures it, in a process of its own
    "checkpoint": "workload.write_checkpoint",
    "float_onnx": "workload.write_float_onnx",
    "times": "collecting.times",
    "float_memory": "collecting.float_memory",
    "ours_memory": "collecting.ours_memory",
    "pytorch_quantization_memory": "collecting.library_memory",
    "computing": "computing.ours_and_library",
    "modelopt": "modelopt.collect_and_compute",
    "onnxruntime_percentile": "onnxruntime.percentile",
    "onnxruntime_entropy": "onnxruntime.entropy",
}
MANY = 8  # times as many batches for the growth of memory


def run(
    folder: Path,
    *,
    tokens: int = 128,
    batches: int = 8,
    rounds: int = 3,
    threads: int = 2,
    record: Path | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Returns the table of the checkpoint in `folder`/checkpoint, made there at the shape of BERT-base when absent.

    Raises BudgetMissed when an amax of ours is not pytorch-quantization's, ProcessFault when a case of ours fails; a
    peer that fails or is not installed is a row with the reason.
    """
    folder = folder.absolute()
    with tempfile.TemporaryDirectory(prefix="bench-calibration-") as scratch:
        work = Workload(
            checkpoint=str(folder / "checkpoint"),
            scratch=scratch,
            tokens=tokens,
            batches=batches,
            rounds=rounds,
            threads=threads,
        )
        found = measure_all(work)
    require_equal(found["computing"]["checks"])
    table = results.document(
        command,
        threads,
        packages=PACKAGES,
        model=folder.name,
        workload={k: v for k, v in asdict(work).items() if k not in ("checkpoint", "scratch")},
        quantizers=found["ours_memory"]["quantizers"],
        statistics=found["ours_memory"]["statistics"],
        collecting=rows.collecting(found, work, work.batches * MANY),
        computing=rows.computing(found),
        checks=found["computing"]["checks"],
    )
    results.write(table, record)
    return table


def measure_all(work: Workload) -> dict[str, Any]:
    """Returns what every case gave, by name, one after another."""
    measure("checkpoint", work)
    found = {name: measure(name, work) for name in ("times", "float_memory", "ours_memory")}
    found["ours_memory_many"] = measure("ours_memory", replace(work, batches=work.batches * MANY))
    found["pytorch_quantization_memory"] = measure("pytorch_quantization_memory", work)
    found["computing"] = measure("computing", work)
    graph = attempt("float_onnx", work)
    for name in ("modelopt", *rows.ONNXRUNTIME):
        blocked = name.startswith("onnxruntime") and "skipped" in graph
        found[name] = graph if blocked else attempt(name, work)
    return found


def measure(case: str, work: Workload) -> dict[str, Any]:
    """Returns the result of a case of ours. Raises ProcessFault when it fails."""
    return spawn(case, work)


def attempt(case: str, work: Workload) -> dict[str, Any]:
    """Returns the result of a peer's case, or {"skipped": why there is none}."""
    try:
        return spawn(case, work, PEER_SECONDS)
    except ProcessFault as fault:
        return {"skipped": fault.end}
    except (BackendUnavailable, TimeoutError) as error:
        return {"skipped": str(error)}
    except PipelineError as error:
        return {"skipped": f"failed: {error}"}


def spawn(case: str, work: Workload, timeout: float | None = None) -> dict[str, Any]:
    """Returns what one case gives in a fresh process with the workload's number of threads."""
    log.info("bench-calibration: %s, %d batches", case, work.batches)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(work.threads))
    function, given = f"{__name__}:run_case", (case, asdict(work))
    found: dict[str, Any] = call(f"the case {case}", function, *given, environment=threads, timeout=timeout)
    return found


def run_case(name: str, workload: dict[str, Any]) -> dict[str, Any]:
    """Returns a case's result. Seconds are lists, one value a round; memory is in bytes.

    Raises BackendUnavailable where a package is missing.
    """
    module, function = CASES[name].split(".")
    try:
        case = getattr(importlib.import_module(f"{__name__}.{module}"), function)
        found: dict[str, Any] = case(Workload(**workload))
    except ModuleNotFoundError as error:
        raise BackendUnavailable(missing_package(str(error.name), INSTALL)) from error
    return found


def require_equal(checks: list[dict[str, Any]]) -> None:
    """Raises BudgetMissed that names every method whose amax is more than a bin from pytorch-quantization's."""
    wrong = [
        f"{c['method']}: {c['bins']:.2f} bins at {c['where']}, the worst of {c['quantizers']} quantizers"
        for c in checks
        if c["skipped"] is None and not c["passed"]
    ]
    if wrong:
        raise BudgetMissed("amax differs from pytorch-quantization's by more than a bin:\n  " + "\n  ".join(wrong))
