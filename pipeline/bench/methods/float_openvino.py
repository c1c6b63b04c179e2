"""The float model in float32 OpenVINO: as the checkpoint has it, or rewritten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import backends
from pipeline.bench.methods import Method, original, rewritten
from pipeline.recipe import Recipe

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace


@dataclass(frozen=True)
class FloatOpenVino(Method):
    graph: Callable[[Workspace], Path]

    def build(self, workspace: Workspace, area: Path) -> None:
        recipe = Recipe.load(workspace.manifest.recipe["family"])
        backends.get(self.backend).build(self.graph(workspace), area, recipe, "fp32")


METHODS = {
    "float_openvino": FloatOpenVino("float, OpenVINO", "openvino", original),
    "rewritten_openvino": FloatOpenVino("float with our rewrites, OpenVINO", "openvino", rewritten),
}
