"""The float model in ONNX Runtime: as the checkpoint has it, which all others are compared with, or rewritten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.bench.methods import Method, original, rewritten
from pipeline.judge.reference import float_session

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.bench.timing import Runner


@dataclass(frozen=True)
class FloatOnnxRuntime(Method):
    graph: Callable[[Workspace], Path]

    def load(self, workspace: Workspace, area: Path, threads: int) -> Runner:
        return float_session(self.graph(workspace), threads)


METHODS = {
    "float_onnxruntime": FloatOnnxRuntime("float, ONNX Runtime", "onnxruntime", original),
    "rewritten_onnxruntime": FloatOnnxRuntime("float with our rewrites, ONNX Runtime", "onnxruntime", rewritten),
}
