"""Figures as inline SVG coloured by the page's CSS variables, so that they follow light, dark and print."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape

from pipeline.report.formats import milliseconds, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# matplotlib knows only fixed colours: it draws in stand-ins, which are then replaced by the variables.
INK, MUTED, LINE, FLOAT, ENGINE, BAD = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f", "#101112"
VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", FLOAT: "float", ENGINE: "engine", BAD: "bad"}
SETTINGS: Any = {
    "svg.fonttype": "none",  # text stays text: it can be searched and takes the page's font
    "text.parse_math": False,  # a class may be called "$5"
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
}
MOST_CLASSES = 40
WIDTH = 10.6  # inches of 72 points


def latency(measured: Mapping[str, Any], engine_name: str) -> Markup | None:
    """Returns a plot of every timed run, median and tail, float's and the engine's; None without the engine's.

    measured: the report's `latency`, in which `samples` (milliseconds of every run), `float_ort` and
    `float_ort_rewritten` (the float model after its rewrites) are optional.
    """
    every = [
        ("float_ort", "float ONNX Runtime", FLOAT),
        ("float_ort_rewritten", "float, rewritten", FLOAT),
        ("engine", engine_name, ENGINE),
    ]
    rows = [row for row in every if number((measured.get(row[0]) or {}).get("p50")) is not None]
    if not rows or rows[-1][0] != "engine":
        return None
    title = f"Latency of {'float ONNX Runtime and of ' if len(rows) > 1 else ''}{engine_name}"
    with _figure(0.7 + 0.6 * len(rows), title) as (figure, axes):
        for y, (key, _, colour) in enumerate(rows):
            samples = (measured.get("samples") or {}).get(key) or []
            _runs(axes, y, measured[key], samples, colour)
        axes.set_yticks(range(len(rows)), [name for _, name, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.55)
        axes.set_xlim(left=0)
        axes.set_xlabel("milliseconds per call   (dot: one call; bar: median to p99; ticks: p90 and p99)")
        return _svg(figure)


def _runs(axes: Axes, y: float, figures: Mapping[str, Any], samples: Sequence[float], colour: str) -> None:
    p50, p90, p99 = (number(figures.get(q)) or 0.0 for q in ("p50", "p90", "p99"))
    times = np.asarray(samples, dtype=float)
    axes.scatter(times, y - 0.12 - 0.26 * np.random.default_rng(0).random(times.size), s=9, c=colour, alpha=0.45, lw=0)
    axes.plot([p50, max(p50, p99)], [y, y], color=colour, lw=2.2, solid_capstyle="round")
    axes.plot(p50, y, "o", color=colour, ms=7)
    for tail in (p90, p99):
        axes.plot([max(p50, tail)] * 2, [y - 0.07, y + 0.07], color=colour, lw=1.6)
    label = f"median {milliseconds(p50)}"
    axes.annotate(label, (p50, y), (0, -8), textcoords="offset points", ha="center", va="top")


def per_class(rows: Sequence[Mapping[str, Any]], metric: str) -> Markup | None:
    """Returns a plot of float and engine for each class, joined by a line; of many classes, the most changed."""
    pairs = [
        (str(row["name"]), before, after)
        for row in rows
        if (before := number(row.get("float"))) is not None and (after := number(row.get("engine"))) is not None
    ]
    if not pairs:
        return None
    pairs = sorted(pairs, key=lambda pair: -abs(pair[1] - pair[2]))[:MOST_CLASSES]
    pairs.sort(key=lambda pair: pair[1])
    places = list(range(len(pairs)))
    with _figure(0.7 + 0.21 * len(pairs), f"{metric} per class, float and int8") as (figure, axes):
        for y, (_, before, after) in enumerate(pairs):
            axes.plot([before, after], [y, y], color=BAD if after < before else ENGINE, lw=2, alpha=0.6)
        axes.plot([before for _, before, _ in pairs], places, "o", color=FLOAT, ms=7, label="float")
        axes.plot([after for _, _, after in pairs], places, "o", color=ENGINE, ms=4.5, label="int8")
        axes.set_yticks(places, [name if len(name) <= 28 else name[:27] + "…" for name, _, _ in pairs])
        axes.set_ylim(-0.7, len(pairs) - 0.3)
        axes.set_xlabel(
            f"{metric} per class" + (f", the {MOST_CLASSES} most changed" if len(rows) > MOST_CLASSES else "")
        )
        axes.legend(frameon=False, loc="lower left", ncols=2, bbox_to_anchor=(0, 1), handletextpad=0.2)
        return _svg(figure)


def per_sample(float_scores: Sequence[float], engine_scores: Sequence[float], metric: str) -> Markup | None:
    """Returns a histogram of how much samples got better or worse; the unchanged ones are counted below it.

    A sample without a score (an image without a labelled pixel) is not drawn. None where no sample has one.
    """
    from matplotlib.ticker import MaxNLocator

    before, after = np.asarray(float_scores, dtype=float), np.asarray(engine_scores, dtype=float)
    if before.shape != after.shape:
        return None
    scored = np.isfinite(before) & np.isfinite(after)
    before, after = before[scored], after[scored]
    if not scored.any():
        return None
    change = after - before
    moved = np.abs(change) > 1e-9
    if not moved.any():
        return Markup("<p>None of the {} samples changed its {}.</p>").format(change.size, metric)
    reach = float(np.abs(change).max())
    counts, edges = np.histogram(change[moved], bins=41, range=(-reach, reach))
    with _figure(2.0, f"Change of {metric} per sample") as (figure, axes):
        middles = (edges[:-1] + edges[1:]) / 2
        colours = [BAD if middle < 0 else ENGINE for middle in middles]
        axes.bar(middles, counts, width=0.9 * (edges[1] - edges[0]), color=colours)
        axes.axvline(0, color=MUTED, lw=1)
        axes.grid(axis="both")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlim(-1.05 * reach, 1.05 * reach)
        axes.set_ylabel("samples")
        same = "" if moved.all() else f"   ({(~moved).sum()} of {moved.size} samples, unchanged, are not drawn)"
        axes.set_xlabel(f"change of a sample's {metric}, float to int8{same}")
        return _svg(figure)


@contextmanager
def _figure(height: float, title: str) -> Iterator[tuple[Figure, Axes]]:
    """Yields an empty figure as wide as the page, with our settings while it is drawn."""
    import matplotlib as mpl
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    # The salt makes the ids in the SVG the same in every run, and different from those of other figures.
    with warnings.catch_warnings(), mpl.rc_context({**SETTINGS, "svg.hashsalt": title}):
        warnings.simplefilter("ignore")  # a class name in a script that the bundled font lacks
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        figure.set_label(title)
        axes = figure.add_subplot()
        axes.grid(axis="x")
        axes.tick_params(length=0)
        yield figure, axes


def _svg(figure: Figure) -> Markup:
    """Returns the figure as one <svg> element that scales with the page."""
    stream = StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # the same in every figure, so not unique in the page
    text = re.sub(r"font: (\d+(?:\.\d+)?)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r'(<svg [^>]*?)width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", text, count=1)
    for stand_in, name in VARIABLES.items():
        text = text.replace(stand_in, f"var(--{name})")
    text = text.replace("<svg ", f'<svg role="img" aria-label="{escape(str(figure.get_label()))}" class="plot" ', 1)
    return Markup(text)  # noqa: S704 matplotlib escapes what it writes, the title is escaped above
