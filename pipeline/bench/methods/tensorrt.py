"""TensorRT engines of our graphs in int8, fp16 and fp32, from what the lower stage wrote: no torch is needed."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import backends
from pipeline.artifacts import commands
from pipeline.backends import tensorrt
from pipeline.bench.methods import Method
from pipeline.errors import InputError
from pipeline.files import digest_of
from pipeline.judge.soundness import Expected
from pipeline.recipe import Recipe

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.judge.evaluation import Reference

MADE = "made.json"  # beside a plan: what it was made from, and in how many seconds


@dataclass(frozen=True)
class TensorRt(Method):
    """The engine of one precision. A plan that is there already, of the same files on the same machine, is kept."""

    precision: str = "int8"

    def usual(self) -> bool:
        return self.unavailable_reason() is None

    def build(self, workspace: Workspace, area: Path) -> None:
        """Raises InputError for a folder whose graphs are written for another TensorRT."""
        recipe = recipe_of(workspace)
        made_from = digest_of(self.made_from(workspace, recipe))
        if (area / MADE).is_file() and json.loads((area / MADE).read_text(encoding="utf-8"))["from"] == made_from:
            return
        shutil.rmtree(area, ignore_errors=True)
        area.mkdir(parents=True)
        seconds = self.build_anew(workspace, area, recipe)
        (area / MADE).write_text(json.dumps({"from": made_from, "seconds": round(seconds, 2)}), encoding="utf-8")

    def made_from(self, workspace: Workspace, recipe: Recipe) -> dict[str, Any]:
        """Returns what a plan depends on."""
        graph = workspace.digest(self._graph)
        return {"graph": graph, "machine": tensorrt.version(), "settings": tensorrt.settings(recipe)}

    def build_anew(self, workspace: Workspace, area: Path, recipe: Recipe) -> float:
        """Returns the seconds of building a plan in `area`."""
        workspace.path(self._graph)  # the backend takes a float graph that lies beside the QDQ graph
        return timed_build(workspace.path(f"{self.backend}/model.qdq.onnx"), area, recipe, self.precision)

    def expected(self, workspace: Workspace, area: Path, reference: Reference) -> Expected:
        """Returns what the engine in `area` should give."""
        return Expected.read(workspace, self.backend, self.precision, reference)

    @property
    def _graph(self) -> str:
        return f"{self.backend}/model.{'qdq' if self.precision == 'int8' else self.precision}.onnx"


def timed_build(graph: Path, area: Path, recipe: Recipe, precision: str) -> float:
    """Returns the seconds that TensorRT takes to build a plan."""
    start = time.perf_counter()
    backends.build(backends.get(tensorrt.NAME), graph, area, recipe, precision)
    return time.perf_counter() - start


def recipe_of(workspace: Workspace) -> Recipe:
    """Returns the recipe of a folder for TensorRT.

    Raises InputError, with the command that writes its graphs anew, where they are for another TensorRT than this.
    """
    recorded = {**workspace.manifest.recipe, "backend": tensorrt.NAME}
    if "family" not in recorded:
        raise InputError(f"{workspace.folder} is no artifact folder; give what `engine --backend tensorrt` made.")
    recipe = Recipe.load(recorded["family"], overrides={"folder": workspace.folder}, defaults=recorded)
    workspace.path(f"{tensorrt.NAME}/model.qdq.onnx")
    here = tensorrt.target_of(tensorrt.maker().tensorrt)
    written = workspace.manifest.stages[f"lower/{tensorrt.NAME}"]["inputs"]["dialect"]
    if written != list(tensorrt.DIALECTS[here]):
        options = {**recorded, "tensorrt": {**recorded["tensorrt"], "target": here}}
        raise InputError(
            f"the graphs in {workspace.folder} are not for TensorRT {tensorrt.maker().tensorrt}, which is here; write "
            f"them anew where onnx-ir and onnxruntime are, which needs no torch: "
            f"`{commands.on_folder('lower', workspace.folder, options, python='python')}`."
        )
    return recipe


METHODS = {
    "tensorrt_fp32": TensorRt("float with our rewrites, TensorRT fp32", tensorrt.NAME, "fp32"),
    "tensorrt_fp16": TensorRt("float with our rewrites, TensorRT fp16", tensorrt.NAME, "fp16"),
    "tensorrt_int8": TensorRt("ours int8, TensorRT", tensorrt.NAME, "int8"),
}
