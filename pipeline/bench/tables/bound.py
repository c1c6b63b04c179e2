"""The README block of `bound --record`: what the machine can do at best, and where the engine's time goes."""

from __future__ import annotations

from typing import Any

from pipeline.bench.tables import _markdown
from pipeline.bench.tables.scaling import three_digits

GIGA = 1e9
LEAST = 0.005  # of the time of all layers: kinds below share one row
Table = tuple[list[str], list[list[str]]]


def section(document: dict[str, Any]) -> str:
    """Returns the Markdown of one recorded run."""
    return _markdown.section(headline(document), tables(document), conclusion(document))


def headline(document: dict[str, Any]) -> str:
    """Returns what was measured, where and when."""
    about, shape = document["environment"], next(iter(document["inputs"].values()))
    return (
        f"`{document['command']}`, {about['date'][:10]}: {document['backend']} engine, input "
        f"{'×'.join(map(str, shape))}, {_markdown.machine_of(about)}, {document['rounds']} interleaved "
        f"rounds, medians."
    )


def tables(document: dict[str, Any]) -> list[Table]:
    """Returns (header, rows) of the limits and of the profile."""
    return [limits(document), profile(document)]


def limits(document: dict[str, Any]) -> Table:
    """Returns what the engine has to do at least, and the time that takes at the best rate measured here."""
    rows = []
    for entry in document["limits"]:
        unit, rate = ("GB", "GB/s") if entry["best"].startswith("memory") else ("GOP", "GOP/s")
        rows.append(
            [
                entry["name"],
                f"{entry['amount'] / GIGA:.3f} {unit}",
                f"{three_digits(entry['rate'] / GIGA)} {rate} ({entry['best']})",
                three_digits(entry["ms"]),
            ]
        )
    return ["work", "amount", "best rate here", "ms"], rows


def profile(document: dict[str, Any]) -> Table:
    """Returns the engine's layers by type: their time in a profiled run and the rate of their products."""
    least = LEAST * sum(row["ms"] for row in document["layers"])
    others = [row for row in document["layers"] if row["ms"] < least]
    rows = []
    for row in document["layers"]:
        if row in others:
            continue
        rate = f"{row['flops'] / row['ms'] * 1e3 / GIGA:.0f}" if row["flops"] and row["ms"] else "–"
        rows.append([row["type"], row["precision"], str(row["layers"]), f"{row['ms']:.2f}", rate])
    if others:
        number, ms = (sum(row[key] for row in others) for key in ("layers", "ms"))
        rows.append([f"{len(others)} other kinds", "", str(number), f"{ms:.2f}", "–"])
    return ["layers of the engine", "in", "number", "ms", "GOP/s"], rows


def conclusion(document: dict[str, Any]) -> str:
    """Returns the bound beside the engine's latency."""
    p50, bound, apart = document["engine"]["p50"], document["bound_ms"], document["bound_without_overlap_ms"]
    return (
        f"The engine takes {p50:.1f} ms. At the best rates products and weights take {bound:.1f} ms where the one "
        f"hides the other wholly, {apart:.1f} ms where it does not: with all else free the engine would be "
        f"{p50 / bound:.2f} and {p50 / apart:.2f} times as fast."
    )
