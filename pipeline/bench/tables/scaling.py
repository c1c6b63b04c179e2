"""The README block of `scaling --record`: the picture, and per point ours on OpenVINO beside the best peer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.bench.methods import BASE
from pipeline.bench.tables import _markdown

OURS = "ours_openvino"
NONE = "–"
Row = dict[str, Any]


def picture(document: dict[str, Any], path: Path) -> str:
    """Returns the alternative text of the picture, after drawing it to `path`."""
    from pipeline.bench.scaling.plots import draw

    draw(document, path)
    return f"latency and memory of {document['shape']} against {' and '.join(document['axes'])}"


def section(document: dict[str, Any]) -> str:
    """Returns the Markdown of one recorded run: a sentence on where and how, then a table an axis."""
    return _markdown.section(headline(document), (table(document, axis) for axis in document["axes"]), *wrong(document))


def headline(document: dict[str, Any]) -> str:
    """Returns what was measured, where and when."""
    about = document["environment"]
    versions = about["versions"]
    rounds = sorted({row["rounds"] for row in document["rows"] if row["rounds"]})
    counted = f"{rounds[0]}–{rounds[-1]}" if len(rounds) > 1 else "".join(map(str, rounds)) or "no"
    cosines = [row["cosine"] for row in document["rows"] if row["skipped"] is None]
    least = f"{min(cosines):.4f}" if cosines else NONE
    fixed = " and ".join(f"{name} {value}" for name, value in document["base"].items())
    return (
        f"`{document['command']}`, {about['date'][:10]}: random weights, {fixed} where not varied, "
        f"{_markdown.machine_of(about)}"
        f", {counted} interleaved rounds a point; onnxruntime {versions['onnxruntime']}, "
        f"openvino {versions['openvino'].split('-')[0]}, nncf {versions['nncf']}. Speed-up over float ONNX Runtime "
        f"with its 95 % interval; least cosine of a timed engine's outputs to float's {least}; memory is the peak of a "
        f"process that loads and runs one engine, Python and runtime included."
    )


def table(document: dict[str, Any], axis: str) -> tuple[list[str], list[list[str]]]:
    """Returns (header, rows) of one axis as text."""
    header = [axis, "float ms", "ours ms", "speed-up", "best peer", "its speed-up", "float MiB", "ours MiB"]
    rows = []
    for value in document["axes"][axis]:
        here = {r["method"]: r for r in document["rows"] if (r["axis"], r["value"]) == (axis, value)}
        rows.append([str(value), *cells(here)])
    return header, rows


def cells(here: dict[str, Row]) -> list[str]:
    """Returns one point's cells; a row that was not timed says why in place of its speed-up."""
    base, ours, peer = here[BASE], here.get(OURS), best_peer(list(here.values()))
    return [
        milliseconds(base),
        milliseconds(ours),
        speedup(ours),
        peer["label"] if peer else NONE,
        speedup(peer),
        mebibytes(base),
        mebibytes(ours),
    ]


def best_peer(rows: list[Row]) -> Row | None:
    """Returns the fastest peer whose outputs are right; where none was timed one that says why; None without peers."""
    peers = [row for row in rows if row["peer"]]
    timed = [row for row in peers if row["skipped"] is None]
    return max(timed, key=lambda r: float(r["speedup"]["median"])) if timed else next(iter(peers), None)


def milliseconds(row: Row | None) -> str:
    return NONE if row is None or row["skipped"] else three_digits(row["latency"]["p50"])


def mebibytes(row: Row | None) -> str:
    return NONE if row is None or row["skipped"] else f"{row['peak_rss_bytes'] / 2**20:.0f}"


def speedup(row: Row | None) -> str:
    if row is None:
        return NONE
    if row["skipped"]:
        return "wrong outputs" if row["wrong"] else str(row["skipped"])
    ratio = row["speedup"]
    return f"{ratio['median']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f})"


def three_digits(value: float) -> str:
    """Returns a number with three digits that mean something: 3.21, 32.1, 321, 3210."""
    digits = 2 if round(value, 2) < 10 else 1 if round(value, 1) < 100 else 0
    return f"{value:.{digits}f}"


def wrong(document: dict[str, Any]) -> list[str]:
    """Returns a sentence for every method with wrong outputs, at which points; empty where all are right."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in document["rows"]:
        if row["wrong"]:
            found.setdefault(row["label"], {}).setdefault(row["axis"], []).append(str(row["value"]))
    sentences = []
    for label, at in found.items():
        where = " and ".join(f"{axis} {', '.join(values)}" for axis, values in at.items())
        cosines = [row["cosine"] for row in document["rows"] if row["wrong"] and row["label"] == label]
        worst = "outputs that are not finite" if None in cosines else f"cosine down to {min(cosines):.2f}"
        sentences.append(f"{label} computes something else than the model at {where} ({worst}) and is not timed.")
    return sentences
