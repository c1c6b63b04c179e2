"""What the stages of a run took, for the report."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pipeline.measure.memory import PeakMemory
from pipeline.stages import CHOICE, order, record_name

if TYPE_CHECKING:
    from pipeline.run import Run


def earlier_stages(run: Run, present: str) -> list[dict[str, Any]]:
    """Returns the stages before this one; a skipped one has the figures of the earlier run that made its files.

    Where the engine was chosen among backends, what was made for the others is there too, as <stage>/<backend>.
    """
    manifest = run.workspace.manifest
    recorded = manifest.stages
    chosen = manifest.files.get(f"{run.recipe.backend}/engine.json", {}).get("stage") == CHOICE
    found = []
    for name in order(run.recipe):
        if name == present:
            continue
        keys = {name: CHOICE if chosen and name == "engine" else record_name(name, run.recipe)}
        if chosen and name in ("select", "lower"):
            keys.update({key: key for key in recorded if key.startswith(f"{name}/") and key not in keys.values()})
        found += [(shown, key) for shown, key in keys.items() if key in recorded]
    return [
        {
            "name": shown,
            "seconds": recorded[key]["seconds"],
            "peak_rss_bytes": recorded[key]["peak_rss_bytes"],
            "skipped": key not in run.workspace.ran,
        }
        for shown, key in found
    ]


def this_stage(name: str, start: float) -> dict[str, Any]:
    """Returns this stage's own entry, up to the writing of the report."""
    seconds = round(time.perf_counter() - start, 3)
    return {"name": name, "seconds": seconds, "peak_rss_bytes": PeakMemory().peak(), "skipped": False}
