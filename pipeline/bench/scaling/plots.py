"""The picture of `scaling`: latency above memory, one column an axis, one line a method."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.bench.scaling.points import UNIT
from pipeline.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

# Okabe and Ito's colours, which people with colour-blindness tell apart; the markers tell in grey too. One method has
# one look in every picture, whatever else was measured.
LOOKS = {
    "float_onnxruntime": ("#000000", "o", "--"),
    "float_openvino": ("#999999", "s", "--"),
    "rewritten_onnxruntime": ("#F0E442", "h", "--"),
    "rewritten_openvino": ("#F0E442", "H", "--"),
    "nncf_openvino": ("#E69F00", "^", "-."),
    "nncf_openvino_float_depthwise": ("#CC79A7", "v", "-."),
    "nncf_openvino_overflow_fix": ("#E69F00", "p", "-."),
    "modelopt_openvino": ("#56B4E9", "<", "-."),
    "onnxruntime_static": ("#D55E00", ">", ":"),
    "onnxruntime_static_reduce_range": ("#D55E00", "1", ":"),
    "onnxruntime_dynamic": ("#D55E00", "x", ":"),
    "onnxruntime_dynamic_reduce_range": ("#D55E00", "2", ":"),
    "ours_onnxruntime": ("#0072B2", "D", "-"),
    "ours_openvino": ("#009E73", "P", "-"),
    "tensorrt_fp32": ("#999999", "d", "--"),
    "tensorrt_fp16": ("#56B4E9", "X", "--"),
    "tensorrt_int8": ("#CC79A7", "8", "-"),
}
OTHER = ("#555555", "*", "-")
SETTINGS: Any = {
    "svg.hashsalt": "scaling",  # ids in the file are the same in every run
    "svg.fonttype": "path",  # looks the same on every machine
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
}


def draw(document: dict[str, Any], path: Path) -> None:
    """Writes the picture as SVG; the same document gives the same bytes. What was not timed is not in it."""
    import matplotlib as mpl
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    names = list(document["axes"])
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(max(7.0, 5.0 * len(names)), 6.2), layout="constrained")
        panels = figure.subplots(2, len(names), squeeze=False, sharex="col")
        lines: dict[str, Line2D] = {}
        for column, axis in enumerate(names):
            rows = [row for row in document["rows"] if row["axis"] == axis]
            lines.update(latency(panels[0][column], rows))
            memory(panels[1][column], rows)
            steps(panels[1][column], axis, document)
        panels[0][0].set_ylabel("latency, ms (median, 95 % interval)")
        panels[1][0].set_ylabel("peak memory of the process, MiB")
        lines.update(left_out(document["rows"]))
        look: dict[str, Any] = {"frameon": False, "handlelength": 3}
        columns = 3 if len(names) > 1 else 2  # the longest label takes a third of ten inches
        figure.legend(list(lines.values()), list(lines), loc="outside upper center", ncols=columns, **look)
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, stream.getvalue())


def latency(panel: Axes, rows: list[dict[str, Any]]) -> dict[str, Line2D]:
    """Returns the line of every method by its label, with a band for the interval of the median."""
    found = {}
    for method, timed in by_method(rows).items():
        colour, marker, dash = LOOKS.get(method, OTHER)
        at = [row["value"] for row in timed]
        ms = [row["latency"] for row in timed]
        panel.fill_between(at, [x["low"] for x in ms], [x["high"] for x in ms], color=colour, alpha=0.2, lw=0)
        look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": dash, "ms": 5, "lw": 1.4}
        (found[timed[0]["label"]],) = panel.plot(at, [x["p50"] for x in ms], **look)
    panel.set_yscale("log")
    plain(panel)
    panel.grid()
    return found


def left_out(rows: list[dict[str, Any]]) -> dict[str, Line2D]:
    """Returns an empty line for every method that is nowhere in the picture, labelled with the reason."""
    from matplotlib.lines import Line2D

    timed = {row["method"] for row in rows if row["skipped"] is None}
    missing = {row["label"]: row for row in rows if row["method"] not in timed}
    return {
        f"{label}: {'wrong outputs' if row['wrong'] else 'not run'}": Line2D([], [], linestyle="")
        for label, row in missing.items()
    }


def memory(panel: Axes, rows: list[dict[str, Any]]) -> None:
    """Draws the peak of every method's own process."""
    for method, timed in by_method(rows).items():
        colour, marker, dash = LOOKS.get(method, OTHER)
        at, peaks = [row["value"] for row in timed], [row["peak_rss_bytes"] / 2**20 for row in timed]
        panel.plot(at, peaks, color=colour, marker=marker, linestyle=dash, ms=5, lw=1.4)
    panel.set_ylim(bottom=0)
    panel.grid()


def by_method(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Returns the rows that were timed, by method, in the order of the axis; none of a method with wrong outputs."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda r: int(r["value"])):
        if row["skipped"] is None and not row["wrong"]:
            found.setdefault(row["method"], []).append(row)
    return found


def plain(panel: Axes) -> None:
    """Gives a logarithmic axis numbers as people write them, at 1, 2 and 5 times the powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


def steps(panel: Axes, axis: str, document: dict[str, Any]) -> None:
    """Marks the measured values of a column, and says what the other axis was."""
    from matplotlib.ticker import NullLocator

    fixed = ", ".join(f"{name} {value}" for name, value in document["base"].items() if name != axis)
    panel.set_xscale("log", base=2)
    panel.set_xticks(document["axes"][axis], [str(value) for value in document["axes"][axis]])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlabel(f"{axis}: {UNIT[axis]} ({fixed})")
