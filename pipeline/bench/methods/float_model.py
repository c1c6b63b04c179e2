"""The float model: as the checkpoint has it, which all others are compared with, and with the exact rewrites."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import backends
from pipeline.bench.methods import BASE, Method, original, rewritten
from pipeline.judge.reference import float_session
from pipeline.recipe import Recipe

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.bench.timing import Runner


@dataclass(frozen=True)
class OnOnnxRuntime(Method):
    graph: Callable[[Workspace], Path]

    def load(self, workspace: Workspace, area: Path, threads: int) -> Runner:
        return float_session(self.graph(workspace), threads)


@dataclass(frozen=True)
class OnOpenVino(Method):
    graph: Callable[[Workspace], Path]

    def build(self, workspace: Workspace, area: Path) -> None:
        recipe = Recipe.load(workspace.manifest.recipe["family"])
        backends.get(self.backend).build(self.graph(workspace), area, recipe, "fp32")


METHODS = {
    BASE: OnOnnxRuntime("float, ONNX Runtime", "onnxruntime", original),
    "float_openvino": OnOpenVino("float, OpenVINO", "openvino", original),
    "rewritten_onnxruntime": OnOnnxRuntime("float with our rewrites, ONNX Runtime", "onnxruntime", rewritten),
    "rewritten_openvino": OnOpenVino("float with our rewrites, OpenVINO", "openvino", rewritten),
}
