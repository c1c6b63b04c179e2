"""Our int8 engines, as the engine stage built them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import backends
from pipeline.bench.methods import Method

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.bench.timing import Runner


class Ours(Method):
    """The engine of one backend."""

    def build(self, workspace: Workspace, area: Path) -> None:
        """Raises ArtifactError where the engine stage did not build it."""
        workspace.path(f"{self.backend}/{backends.RECORD}")

    def load(self, workspace: Workspace, area: Path, threads: int) -> Runner:
        return backends.load_checked(workspace, self.backend, threads)


METHODS = {
    "ours_onnxruntime": Ours("ours int8, ONNX Runtime", "onnxruntime"),
    "ours_openvino": Ours("ours int8, OpenVINO", "openvino"),
}
