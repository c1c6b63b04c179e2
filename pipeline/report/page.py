"""The page drawn from a report: one HTML file that needs no network.

    report.json, placement.json, calibration.json + .npz, examples  ->  report.html

`summary` words the results, `plots`, `overlays` and `quantizers` draw, `page.html.jinja` lays it out. A note stands
where something is missing or cannot be drawn: no verdict is lost for a picture.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from pipeline.errors import ArtifactError
from pipeline.measure.precision import kind
from pipeline.report import formats, overlays, plots, quantizers, summary

if TYPE_CHECKING:
    from jinja2 import Template

    from pipeline.artifacts import Workspace

log = logging.getLogger(__name__)

PAGE = "report.html"


def render(
    report: Mapping[str, Any],
    workspace: Workspace,
    area: Path,
    *,
    examples: Sequence[Mapping[str, Any]],
    class_names: Sequence[str] = (),
) -> None:
    """Writes `area`/report.html.

    examples: from the task's `examples()`; class_names: of the values of label maps.
    """
    page = _template().render(contents(report, workspace, examples, class_names))
    area.mkdir(parents=True, exist_ok=True)
    (area / PAGE).write_text(page, encoding="utf-8", errors="xmlcharrefreplace")  # a path may hold any bytes


@lru_cache(maxsize=1)
def _template() -> Template:
    from jinja2 import ChainableUndefined, Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("pipeline.report", "."),
        autoescape=True,
        undefined=ChainableUndefined,  # a missing number prints as nothing; the filters print '–'
        finalize=formats.printed,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(formats.FILTERS)
    return environment.get_template("page.html.jinja")


def contents(
    report: Mapping[str, Any],
    workspace: Workspace,
    examples: Sequence[Mapping[str, Any]],
    class_names: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns everything that the template prints."""
    recipe = report.get("recipe") or _recipe(workspace)
    backend = str(report.get("backend") or "")
    accuracy, stages = _mapping(report, "accuracy"), report.get("stages") or []
    faults: dict[str, str] = {}
    blocks, notes = _drawn(faults, "quantizers", quantizers.groups, workspace, backend) or ([], [])
    metric, engine = summary.metric_name(report), summary.engine_name(report)
    precision = _mapping(report, "precision_report")
    return {
        "report": report,
        "metric": metric,
        "engine": engine,
        "headline": summary.headline(report),
        "tiles": summary.tiles(report, report.get("budgets") or recipe.get("budgets") or {}),
        "chance": summary.chance(report),
        "comparison": summary.comparison(report),
        "faults": faults,
        "latency_plot": _drawn(faults, "latency", plots.latency, _mapping(report, "latency"), engine),
        "class_plot": _drawn(faults, "accuracy", plots.per_class, accuracy.get("per_class") or [], metric),
        "sample_plot": _drawn(faults, "accuracy", _sample_plot, accuracy, metric),
        "examples": _drawn(faults, "examples", _examples, examples[: overlays.LIMIT], class_names, workspace.folder),
        "blocks": blocks,
        "methods": quantizers.methods(blocks),
        "notes": notes,
        "operators": _drawn(faults, "operators", summary.operators, precision) or [],
        "layers": [{**layer, "kind": kind(str(layer.get("precision")))} for layer in precision.get("layers") or []],
        "longest": summary.longest(stages),
        "rebuild": summary.rebuild(report, recipe, workspace.folder),
        "images": summary.images(report),
        "date": summary.date(report),
    }


def _drawn(faults: dict[str, str], section: str, draw: Callable[..., Any], *of: Any) -> Any:
    """Returns what `draw` makes; None where it fails, which that section of the page then says."""
    try:
        return draw(*of)
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        faults[section] = f"This could not be drawn ({cause}); please report it."
        log.warning("report.html: the section %r is incomplete, %s", section, cause)
        log.debug("where it failed:", exc_info=True)
        return None


def _examples(examples: Sequence[Mapping[str, Any]], class_names: Sequence[str], folder: Path) -> dict[str, Any]:
    """Returns {kind, …} for the template's examples section."""
    kind = overlays.kind_of(examples)
    if kind == "segmentation":
        return {"kind": kind, **overlays.segmentation(overlays.with_images(examples, folder), class_names)}
    if kind == "photos":
        return {"kind": kind, "rows": overlays.photos(examples, folder)}
    if kind == "questions":
        return {"kind": kind, "rows": overlays.questions(examples)}
    if kind == "fields":
        return {"kind": kind, "rows": examples, "columns": list(examples[0])}
    return {"kind": kind, "rows": examples}


def _sample_plot(accuracy: Mapping[str, Any], metric: str) -> Markup | None:
    scores = _mapping(accuracy, "per_sample")
    return plots.per_sample(scores.get("float") or [], scores.get("engine") or [], metric)


def _recipe(workspace: Workspace) -> Mapping[str, Any]:
    """Returns the recipe in the manifest, an empty one where there is none."""
    try:
        return workspace.manifest.recipe
    except ArtifactError:
        return {}


def _mapping(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key)
    return value if isinstance(value, Mapping) else {}
