"""What most backends answer alike; one that differs has a function of its own by that name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.measure import processor

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

AUTO = "auto"


def settings(recipe: Recipe) -> dict[str, Any]:
    """Returns what of the recipe build() reads beside the graph: nothing."""
    return {}


def on_a_cpu(passes: tuple[str, ...], recipe: Recipe) -> tuple[str, ...]:
    """Returns a dialect's passes, before them the one by which the graph is right without VNNI where it must be."""
    return ("saturation_free", *passes) if processor.bounded(recipe) else passes


def precisions(recipe: Recipe) -> tuple[str, ...]:
    """Returns int8, and beside it float where the backend is one of several that are tried."""
    return ("int8", "fp32") if recipe.backend == AUTO else ("int8",)


def float_graph(model_onnx: Path, recipe: Recipe, precision: str) -> bytes:
    """Raises NotImplementedError: model.onnx is built as it is."""
    raise NotImplementedError("OWN_FLOAT_GRAPHS is False")


def command(qdq_onnx: Path, area: Path, recipe: Recipe) -> list[str]:
    """Raises NotImplementedError: no tool of the runtime builds the engine elsewhere."""
    raise NotImplementedError("BUILT_ELSEWHERE is False")


def lint_target(recipe: Recipe) -> str:
    """Returns whose rules the QDQ graph is held to: a CPU's."""
    return "cpu"
