"""The README block of `bound --record`: what the machine can do at best, and where the engine's time goes."""

from __future__ import annotations

from typing import Any

from pipeline.bench.tables._table import Section, Table
from pipeline.bench.tables._words import NONE, by, machine_of, source, three_digits

GIGA = 1e9
LEAST = 0.005  # of the time of all layers: kinds below share one row


def section(document: dict[str, Any]) -> Section:
    """Returns the limits, the engine's profile, and the bound beside its latency."""
    shape = next(iter(document["inputs"].values()))
    headline = (
        f"{source(document)}: {document['backend']} engine, input {by(shape)}, "
        f"{machine_of(document['environment'])}, {document['rounds']} interleaved rounds, medians."
    )
    return Section(headline, [limits(document), profile(document)], [conclusion(document)])


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
    return Table(["work", "amount", "best rate here", "ms"], rows)


def profile(document: dict[str, Any]) -> Table:
    """Returns the engine's layers by type: their time in a profiled run and the rate of their products."""
    least = LEAST * sum(row["ms"] for row in document["layers"])
    others = [row for row in document["layers"] if row["ms"] < least]
    rows = []
    for row in document["layers"]:
        if row in others:
            continue
        rate = f"{row['flops'] / row['ms'] * 1e3 / GIGA:.0f}" if row["flops"] and row["ms"] else NONE
        rows.append([row["type"], row["precision"], str(row["layers"]), f"{row['ms']:.2f}", rate])
    if others:
        number, ms = (sum(row[key] for row in others) for key in ("layers", "ms"))
        rows.append([f"{len(others)} other kinds", "", str(number), f"{ms:.2f}", NONE])
    return Table(["layers of the engine", "in", "number", "ms", "GOP/s"], rows)


def conclusion(document: dict[str, Any]) -> str:
    """Returns the bound beside the engine's latency."""
    p50, bound, apart = document["engine"]["p50"], document["bound_ms"], document["bound_without_overlap_ms"]
    return (
        f"The engine takes {p50:.1f} ms. At the best rates products and weights take {bound:.1f} ms where the one "
        f"hides the other wholly, {apart:.1f} ms where it does not: with all else free the engine would be "
        f"{p50 / bound:.2f} and {p50 / apart:.2f} times as fast."
    )
