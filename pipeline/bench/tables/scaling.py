"""The README block of `scaling --record`: the picture, and per point ours on OpenVINO beside the best peer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.bench.methods import BASE
from pipeline.bench.tables._table import Section, Table
from pipeline.bench.tables._words import (
    MEBI,
    NONE,
    interval,
    machine_of,
    ratio_with_interval,
    source,
    three_digits,
    versions,
)

OURS = "ours_openvino"
Row = dict[str, Any]


def picture(document: dict[str, Any], path: Path) -> str:
    """Returns the alternative text of the picture, after drawing it to `path`."""
    from pipeline.bench.scaling.plots import draw

    draw(document, path)
    return f"latency and memory of {document['shape']} against {' and '.join(document['axes'])}"


def section(document: dict[str, Any]) -> Section:
    """Returns a table an axis: ours on OpenVINO beside the best peer."""
    return Section(headline(document), [table(document, axis) for axis in document["axes"]], wrong(document))


def details(document: dict[str, Any]) -> Section:
    """Returns a row a point and method."""
    columns = ["point", "method", "p50 ms", "p90 ms", "speed-up", "95 % interval", "cosine", "peak MiB", "rounds"]
    return Section(headline(document), [Table(columns, [_point(row) for row in document["rows"]])])


def _point(row: Row) -> list[str]:
    named = [f"{row['axis']} {row['value']}", row["label"]]
    if row["skipped"]:
        return [*named, f"not timed: {row['skipped']}"]
    ms, ratio = row["latency"], row["speedup"]
    timed = [f"{ms['p50']:.1f}", f"{ms['p90']:.1f}", f"{ratio['median']:.2f}", interval(ratio)]
    return [*named, *timed, f"{row['cosine']:.4f}", mebibytes(row), str(row["rounds"])]


def headline(document: dict[str, Any]) -> str:
    """Returns what was measured, where and when."""
    about = document["environment"]
    rounds = sorted({row["rounds"] for row in document["rows"] if row["rounds"]})
    counted = f"{rounds[0]}–{rounds[-1]}" if len(rounds) > 1 else "".join(map(str, rounds)) or "no"
    cosines = [row["cosine"] for row in document["rows"] if row["skipped"] is None]
    least = f"{min(cosines):.4f}" if cosines else NONE
    fixed = " and ".join(f"{name} {value}" for name, value in document["base"].items())
    return (
        f"{source(document)}: random weights, {fixed} where not varied, {machine_of(about)}, {counted} interleaved "
        f"rounds a point; {versions(about, 'onnxruntime', 'openvino', 'nncf')}. Speed-up over float ONNX Runtime with "
        f"its 95 % interval; least cosine of a timed engine's outputs to float's {least}; memory is the peak of a "
        f"process that loads and runs one engine, Python and runtime included."
    )


def table(document: dict[str, Any], axis: str) -> Table:
    """Returns one axis."""
    columns = [axis, "float ms", "ours ms", "speed-up", "best peer", "its speed-up", "float MiB", "ours MiB"]
    rows = []
    for value in document["axes"][axis]:
        here = {r["method"]: r for r in document["rows"] if (r["axis"], r["value"]) == (axis, value)}
        rows.append([str(value), *cells(here)])
    return Table(columns, rows)


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
    return NONE if row is None or row["skipped"] else f"{row['peak_rss_bytes'] / MEBI:.0f}"


def speedup(row: Row | None) -> str:
    if row is None:
        return NONE
    if row["skipped"]:
        return "wrong outputs" if row["wrong"] else str(row["skipped"])
    return ratio_with_interval(row["speedup"])


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
