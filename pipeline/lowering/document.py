"""placement.json, which stands beside a QDQ graph: its section on what may saturate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.judge.evaluation import read_json
from pipeline.measure import machine

if TYPE_CHECKING:
    import onnx_ir as ir

    from pipeline.artifacts import Workspace

FILE = "placement.json"
WORST = 5  # products that are named


def saturation(workspace: Workspace, backend: str) -> dict[str, Any] | None:
    """Returns the section on what may saturate; None where nothing is known, and on a GPU."""
    found: dict[str, Any] | None = read_json(workspace, f"{backend}/{FILE}").get("saturation")
    return found


def at_risk(graph: ir.Model) -> dict[str, Any]:
    """Returns {processor: the class that a graph was made for, products, may_saturate, worst: the names of a few}."""
    from pipeline.graph.saturation_risk import risks

    found = risks(graph)
    worst = [str(risk.node.name) for risk in found if risk.may_saturate]
    return {
        "processor": machine.processor_class(),
        "products": len(found),
        "may_saturate": len(worst),
        "worst": worst[:WORST],
    }
