"""The checkpoint as it is, in float32 OpenVINO."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.backends import openvino
from pipeline.recipe import Recipe
from pipeline.report.sections import float_graphs

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.bench.methods import Runner

LABEL = "float, OpenVINO"
PEER = False
unavailable_reason = openvino.unavailable_reason


def make(workspace: Workspace, area: Path, threads: int) -> Runner:
    build(workspace, float_graphs(workspace)["float_ort"], area)
    return load(workspace, area, threads)


def build(workspace: Workspace, graph: Path, area: Path) -> None:
    """Writes a float graph in OpenVINO's form into `area`, which holds nothing else then."""
    recipe = Recipe.load(workspace.manifest.recipe["family"], overrides={"folder": workspace.folder})
    shutil.rmtree(area, ignore_errors=True)
    openvino.build(graph, area, recipe, "fp32")


def load(workspace: Workspace, area: Path, threads: int) -> Runner:
    return openvino.load(area, threads)
