"""export: the float ONNX, the graph with every candidate quantizer, and the float model's answers on held-out data."""

from __future__ import annotations

import json
import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import evaluation, prepare, tasks
from pipeline.artifacts import Workspace
from pipeline.errors import EngineRefused
from pipeline.recipe import Recipe
from pipeline.stages import calibrate, code_digest, file_digest, versions
from pipeline.tasks import Arrays

NAME = "export"
log = logging.getLogger(__name__)

SAME = 1e-3  # largest difference between PyTorch's and ONNX Runtime's float outputs, relative to the largest


def inputs(recipe: Recipe, workspace: Workspace) -> dict[str, Any]:
    return {
        "quantizers.json": file_digest(workspace, "quantizers.json"),
        "calibration.npz": file_digest(workspace, "calibration.npz"),
        "checkpoint": workspace.manifest.stages.get("quantize", {}).get("inputs", {}).get("checkpoint"),
        "data": calibrate.data_digest(recipe),
        "shapes": recipe.shapes.model_dump(exclude={"batches"}),
        "rewrites": recipe.rewrites,
        "samples": recipe.verification.samples,
        "seed": recipe.seed,
        "code": code_digest("graph", "tasks", "families", "quantization", "export.py", "operator_parity.py",
                            "original.py", "prepare.py", "reference.py", "scales.py", "stages/export.py"),
        **versions("torch", "transformers", "onnx", "onnxscript", "onnx-ir", "onnxruntime"),
    }  # fmt: skip


def outputs(recipe: Recipe) -> list[str]:
    return ["model.onnx", "candidates.onnx", "reference.npz", "parity.json"]


def run(recipe: Recipe, workspace: Workspace, area: Path) -> None:
    import onnx_ir as ir

    from pipeline.graph.write import write_checked
    from pipeline.original import exported_beside

    source = prepare.open_source(recipe)
    samples = held_out(recipe, source, workspace.folder)  # first: bad data shows before minutes of export
    rewritten = bool(recipe.rewrites and source.family.rewrites())
    log.info("exporting the %s", "float and the quantized model" if rewritten else "model")
    with exported_beside(recipe, area) if rewritten else nullcontext():
        model, candidates = export_quantized(source, recipe, workspace)
        write_checked(candidates, area / "candidates.onnx")
        write_checked(without_quantizers(ir.load(area / "candidates.onnx")), area / "model.onnx")
        prove_operators(model, candidates, samples[0], area)
    if not rewritten:
        judge_float(source, recipe, samples, area / "model.onnx")


def export_original(recipe: Recipe, area: Path) -> None:
    """Writes original.onnx, which is the checkpoint as it is, and what `judge_float` makes with it."""
    from pipeline.graph.write import write_checked

    source = prepare.open_source(recipe)
    write_checked(export_float(source, recipe), area / "original.onnx")
    judge_float(source, recipe, held_out(recipe, source, recipe.folder), area / "original.onnx")


def judge_float(source: prepare.Source, recipe: Recipe, samples: tuple[Arrays, Arrays], float_onnx: Path) -> None:
    """Writes reference.npz beside the float ONNX, after that is proved to compute what PyTorch computes."""
    same_as_torch(source, recipe, float_onnx)
    reference = reference_arrays(recipe, source, samples, float_onnx)
    np.savez(float_onnx.with_name("reference.npz"), allow_pickle=False, **reference)


def export_float(source: prepare.Source, recipe: Recipe) -> Any:
    """Returns the graph of the checkpoint as it is, without rewrites and quantizers."""
    from pipeline.export import export_onnx
    from pipeline.graph.tidy import tidy

    sample = prepare.random_inputs(source, recipe)
    axes = source.family.dynamic_axes(tuple(sample))
    return tidy(export_onnx(prepare.float_model(source), sample, source.outputs, axes))


def export_quantized(source: prepare.Source, recipe: Recipe, workspace: Workspace) -> tuple[Any, Any]:
    """Returns the quantized PyTorch model and its graph; amax by max, the lower stage sets the chosen method's."""
    from calibration import CalibrationTable
    from pipeline.export import export_onnx
    from pipeline.graph import set_scales
    from pipeline.graph.tidy import tidy
    from pipeline.quantization import apply_amax
    from pipeline.scales import to_scale

    table = CalibrationTable.read(workspace.path("calibration.json"))
    amax = {name: r.amax_for("max") for name, r in table.records.items() if r.degenerate is None}
    model = prepare.quantized_model(source, recipe)
    apply_amax(model, amax)  # type: ignore[arg-type]
    sample = prepare.random_inputs(source, recipe)
    graph = export_onnx(model, sample, source.outputs, source.family.dynamic_axes(tuple(sample)))
    set_scales(graph, {name: to_scale(value) for name, value in amax.items()})
    return model, tidy(graph)


def without_quantizers(candidates: Any) -> Any:
    """Returns the float graph after the rewrites: every pair removed, transposed weights folded."""
    from pipeline.graph import keep_pairs
    from pipeline.graph.fold import fold_transposed_weights

    keep_pairs(candidates, set())
    fold_transposed_weights(candidates)
    return candidates


def held_out(recipe: Recipe, source: prepare.Source, folder: Path) -> tuple[Arrays, Arrays]:
    """Returns inputs and labels of the samples that judge the engine."""
    count = tasks.counts(recipe, source.task.SAMPLES)["evaluation"]
    raw = source.task.samples(recipe, source.config, "evaluation", count, folder=source.folder)
    found: tuple[Arrays, Arrays] = source.task.encode(folder, recipe, raw)
    prepare.check_judgeable(source, recipe, found[1])
    return found


def reference_arrays(
    recipe: Recipe, source: prepare.Source, samples: tuple[Arrays, Arrays], float_onnx: Path
) -> Arrays:
    """Returns inputs, labels and the float model's outputs in ONNX Runtime on the held-out samples, for the .npz."""
    from pipeline.reference import float_session

    arrays, labels = samples
    run_float = float_session(float_onnx, recipe.verification.threads)
    found = evaluation.in_batches(run_float, arrays, recipe.calibration.batch_size, "float reference")
    if hasattr(source.task, "reference_labels"):
        labels = {**labels, **source.task.reference_labels(source.task.predict(found, labels))}
    return {
        **{f"input/{name}": value for name, value in arrays.items()},
        **{f"output/{name}": value for name, value in found.items()},
        **{f"label/{name}": value for name, value in labels.items()},
    }


def same_as_torch(source: prepare.Source, recipe: Recipe, float_onnx: Path) -> None:
    """Checks that the float ONNX computes what PyTorch computes, on random inputs at a batch it was not traced with."""
    from pipeline.reference import exact_session

    sample = prepare.random_inputs(source, recipe, batch=3)
    expected = prepare.run_torch(prepare.float_model(source), sample, source.outputs)
    found = exact_session(float_onnx, recipe.verification.threads)(sample)
    for name, value in expected.items():
        difference = float(np.abs(found[name] - value).max()) / float(np.abs(value).max())
        if not difference <= SAME:
            raise EngineRefused(
                f"the exported float ONNX differs from PyTorch by {difference:.1e} of the largest {name}; "
                f"this checkpoint cannot be exported right."
            )


def prove_operators(model: Any, candidates: Any, samples: Arrays, area: Path) -> None:
    """Writes parity.json: every quantized operator of the graph against PyTorch's fake quantization."""
    from pipeline.operator_parity import compare_operators

    results = compare_operators(model, candidates, {name: value[:1] for name, value in samples.items()}, area)
    (area / "parity.json").write_text(json.dumps([r.to_json() for r in results], indent=1), encoding="utf-8")
    flips = sum(r.flips for r in results)
    log.info("%d quantized operators equal PyTorch's; %d values on a rounding boundary", len(results), flips)
    wrong = [r.site for r in results if not r.equal]
    if wrong:
        raise EngineRefused(
            f"{len(wrong)} quantized operators of the ONNX graph differ from PyTorch's fake quantization, "
            f"the first is {wrong[0]}."
        )
