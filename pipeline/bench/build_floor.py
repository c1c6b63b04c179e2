"""What no run from a checkpoint to a verified int8 engine goes without, each piece done once and by itself.

Only the libraries' own work is here: their imports, PyTorch's forward passes over the calibration samples, its exporter
on the float model, the runtimes on the held-out samples. Quantizers, statistics, amax, rewrites, proofs, digests,
flushed files and the report are left out. The sum of the seconds is what the pieces take one after the other; the CPU
seconds over the cores are what no overlap of them can go below.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipeline.measure.process import call
from pipeline.recipe import Recipe

Row = dict[str, Any]


def measure(recipe: Recipe) -> list[Row]:
    """Returns [{work, seconds, cpu_seconds}] of a process of its own, on the artifacts in `recipe.folder`."""
    rows: list[Row] = call("the process that measures the floor", f"{__name__}:work", recipe.model_dump(mode="json"))
    return rows


def work(settings: dict[str, Any]) -> list[Row]:
    """Returns the rows of the pieces, after doing each."""
    recipe = Recipe.model_validate(settings)
    rows: list[Row] = []
    with timed(rows, "import PyTorch, transformers, the exporter and the runtimes"):
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
        import torch
        import transformers  # noqa: F401

        from pipeline import backends
        from pipeline.judge import evaluation
        from pipeline.judge.reference import float_session
        from pipeline.model import loading
        from pipeline.model import samples as splits
        from pipeline.model.onnx_export import export_onnx
        from pipeline.run import Run
        from pipeline.stages import runs_for

        (run,) = runs_for("verify", Run.of(recipe))
        run.backend.version()

    recipe, workspace, threads = run.recipe, run.workspace, run.threads
    torch.set_num_threads(threads)
    source = loading.open_source(recipe)
    samples, _ = splits.calibration(recipe, source, workspace.folder)
    batches = loading.unpadded_batches(samples, recipe.calibration.batch_size)
    count, held_out = len(next(iter(samples.values()))), evaluation.Reference.read(workspace).inputs
    original, engine = workspace.path("original.onnx"), recipe.backend

    with timed(rows, "load the checkpoint"):
        model = loading.float_model(source)
    with timed(rows, f"{count} calibration samples through PyTorch"), torch.inference_mode():
        for batch in batches:
            model(**{name: torch.from_numpy(value) for name, value in batch.items()})
    with timed(rows, "torch.onnx.export of the float model, once"):
        example = loading.random_inputs(source, recipe)
        export_onnx(model, example, source.outputs, source.family.dynamic_axes(example))
    count = len(next(iter(held_out.values())))
    with timed(rows, f"{count} held-out samples through float ONNX Runtime"):
        evaluation.one_by_one(float_session(original, threads), held_out)
    with timed(rows, f"{count} held-out samples through the engine"):
        evaluation.one_by_one(backends.load_checked(workspace, engine, threads), held_out)
    return rows


@contextmanager
def timed(rows: list[Row], name: str) -> Iterator[None]:
    """Adds a row of what the block takes: seconds of the clock, and of all this process's threads on the cores."""
    clock, cpu = time.perf_counter(), time.process_time()
    yield
    rows.append({"work": name, "seconds": time.perf_counter() - clock, "cpu_seconds": time.process_time() - cpu})


def merged(rounds: list[list[Row]]) -> list[Mapping[str, Any]]:
    """Returns the rows of several rounds as one each: seconds and cpu_seconds are lists, a value a round."""
    return [
        {"work": rows[0]["work"], **{key: [row[key] for row in rows] for key in ("seconds", "cpu_seconds")}}
        for rows in zip(*rounds, strict=True)
    ]
