"""export: the float ONNX, the graph with every candidate quantizer, and the float model's answers on held-out data."""

from __future__ import annotations

import json
import logging
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import EngineRefused
from pipeline.measure.versions import versions
from pipeline.model import loading, samples, shared
from pipeline.model.float_side import answers, judge_float
from pipeline.run import Run
from pipeline.stages.code import code_digest

if TYPE_CHECKING:
    from pipeline.tasks import Arrays

NAME = "export"
log = logging.getLogger(__name__)


def inputs(run: Run) -> dict[str, Any]:
    recipe = run.recipe
    return {
        "quantizers.json": run.digest("quantizers.json"),
        "calibration.npz": run.digest("calibration.npz"),
        "checkpoint": run.checkpoint_digest,
        "data": samples.data_digest(recipe, run.sha256),
        "shapes": recipe.shapes.model_dump(exclude={"batches"}),
        "question_answering": recipe.question_answering.model_dump(),
        "rewrites": recipe.rewrites,
        "samples": recipe.verification.samples,
        "seed": recipe.seed,
        "code": code_digest(__name__, run.sha256),
        **versions("torch", "transformers", "onnx", "onnxscript", "onnx-ir", "onnxruntime"),
    }


def outputs(run: Run) -> list[str]:
    return ["model.onnx", "candidates.onnx", "reference.npz", "parity.json"]


def make(run: Run, area: Path) -> None:
    import onnx_ir as ir

    from pipeline.graph.write import write_checked
    from pipeline.model.unrewritten import exported_beside

    recipe = run.recipe
    source = loading.open_source(recipe)
    # first: bad data shows before minutes of export
    held_out = samples.evaluation(run, source)
    rewritten = bool(recipe.rewrites and source.family.rewrites())
    log.info("exporting the %s", "float and the quantized model" if rewritten else "model")
    with exported_beside(recipe, held_out, area) if rewritten else nullcontext():
        model, candidates = export_quantized(source, run)
        write_checked(candidates, area / "candidates.onnx")
        write_checked(without_quantizers(ir.load(area / "candidates.onnx")), area / "model.onnx")
        prove_operators(model, candidates, held_out.first(), area)
    if not rewritten:
        expected = answers(source, recipe, shared.rewritten_model(run, source))
        judge_float(source, recipe, held_out, expected, area / "model.onnx")


def export_quantized(source: loading.Source, run: Run) -> tuple[Any, Any]:
    """Returns the quantized PyTorch model and its graph; amax by max, the lower stage sets the chosen method's."""
    from calibration import CalibrationTable
    from calibration.arithmetic import scale_of
    from pipeline.graph import set_scales
    from pipeline.graph.tidy import tidy
    from pipeline.model.onnx_export import export_onnx
    from pipeline.quantization import apply_amax

    table = CalibrationTable.read(run.workspace.path("calibration.json"))
    amax = {name: r.amax_for("max") for name, r in table.records.items() if r.degenerate is None}
    model = shared.quantized_model(run, source)
    apply_amax(model, amax)  # type: ignore[arg-type]
    sample = loading.random_inputs(source, run.recipe)
    graph = export_onnx(model, sample, source.outputs, source.family.dynamic_axes(sample))
    set_scales(graph, {name: scale_of(value) for name, value in amax.items()})  # type: ignore[arg-type]
    return model, tidy(graph).model


def without_quantizers(candidates: Any) -> Any:
    """Returns the float graph after the rewrites: every pair removed, transposed weights folded."""
    from pipeline.graph import keep_pairs
    from pipeline.graph.fold import fold_transposed_weights

    keep_pairs(candidates, set())
    fold_transposed_weights(candidates)
    return candidates


def prove_operators(model: Any, candidates: Any, sample: Arrays, area: Path) -> None:
    """Writes parity.json: every quantized operator of the graph against PyTorch's fake quantization, on one sample."""
    from pipeline.model.operator_parity import compare_operators

    results = compare_operators(model, candidates, sample, area)
    (area / "parity.json").write_text(json.dumps([r.to_json() for r in results], indent=1), encoding="utf-8")
    flips = sum(r.flips for r in results)
    log.info("%d quantized operators equal PyTorch's; %d values on a rounding boundary", len(results), flips)
    wrong = [r.site for r in results if not r.equal]
    if wrong:
        raise EngineRefused(
            f"{len(wrong)} quantized operators of the ONNX graph differ from PyTorch's fake quantization, "
            f"the first is {wrong[0]}."
        )
