"""The float side of an export: the float ONNX, proved to be what PyTorch computes, and its answers on held-out data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import EngineRefused
from pipeline.judge import evaluation
from pipeline.model import loading

if TYPE_CHECKING:
    from torch import nn

    from pipeline.model.encoded import Encoded
    from pipeline.recipe import Recipe
    from pipeline.tasks import Arrays

BATCH = 3  # of the random inputs
SAME = 1e-3  # largest difference between PyTorch's and ONNX Runtime's float outputs, relative to the largest


def export_original(recipe: Recipe, held_out: Encoded, area: Path) -> None:
    """Writes original.onnx, which is the checkpoint as it is, and what `judge_float` makes with it."""
    from pipeline.graph.write import write_checked

    source = loading.open_source(recipe)
    model = loading.float_model(source)
    expected = answers(source, recipe, model)
    write_checked(export_float(source, recipe, model), area / "original.onnx")
    del model
    judge_float(source, recipe, held_out, expected, area / "original.onnx")


def judge_float(source: loading.Source, recipe: Recipe, held_out: Encoded, expected: Arrays, float_onnx: Path) -> None:
    """Writes reference.npz beside the float ONNX, after that is proved to compute what PyTorch computes.

    expected: PyTorch's `answers`.
    """
    same_as_torch(source, recipe, expected, float_onnx)
    reference = reference_arrays(recipe, source, held_out.read(), float_onnx)
    np.savez(float_onnx.with_name("reference.npz"), allow_pickle=False, **reference)


def export_float(source: loading.Source, recipe: Recipe, model: nn.Module) -> Any:
    """Returns the graph of the checkpoint as it is, without rewrites and quantizers. model: its float model."""
    from pipeline.graph.tidy import tidy
    from pipeline.model.onnx_export import export_onnx

    sample = loading.random_inputs(source, recipe)
    axes = source.family.dynamic_axes(sample)
    return tidy(export_onnx(model, sample, source.outputs, axes)).model


def reference_arrays(
    recipe: Recipe, source: loading.Source, held_out: tuple[Arrays, Arrays], float_onnx: Path
) -> Arrays:
    """Returns inputs, labels and the float model's outputs in ONNX Runtime on the held-out samples, for the .npz."""
    from pipeline.judge.reference import float_session

    arrays, labels = held_out
    run_float = float_session(float_onnx, recipe.verification.threads)
    found = evaluation.in_batches(run_float, arrays, recipe.calibration.batch_size, "float reference")
    labels = {**labels, **source.task.reference_labels(found, labels)}
    return {
        **{f"input/{name}": value for name, value in arrays.items()},
        **{f"output/{name}": value for name, value in found.items()},
        **{f"label/{name}": value for name, value in labels.items()},
    }


def answers(source: loading.Source, recipe: Recipe, model: nn.Module) -> Arrays:
    """Returns what the float model gives for random inputs, at a batch that nothing is traced with."""
    return loading.run_torch(model, loading.random_inputs(source, recipe, BATCH), source.outputs)


def same_as_torch(source: loading.Source, recipe: Recipe, expected: Arrays, float_onnx: Path) -> None:
    """Checks that the float ONNX computes what PyTorch computes. expected: PyTorch's `answers`."""
    from pipeline.judge.reference import exact_session

    sample = loading.random_inputs(source, recipe, BATCH)
    found = exact_session(float_onnx, recipe.verification.threads)(sample)
    for name, value in expected.items():
        difference = float(np.abs(found[name] - value).max()) / float(np.abs(value).max())
        if not difference <= SAME:
            raise EngineRefused(
                f"the exported float ONNX differs from PyTorch by {difference:.1e} of the largest {name}; "
                f"this checkpoint cannot be exported right."
            )
