"""The README block of `bench-build --record`: seconds of a whole run by stage, beside NNCF's."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from pipeline.bench.tables._table import Section, Table
from pipeline.bench.tables._words import machine_of, source, versions


def section(document: dict[str, Any]) -> Section:
    """Returns the runs, the floor, and what the one says about the other."""
    about = document["environment"]
    headline = (
        f"{source(document)}: {machine_of(about)}, {document['rounds']} rounds in turns, every run a process of its "
        f"own in an empty folder; {versions(about, 'nncf', 'openvino')}."
    )
    return Section(headline, [runs(document), floor(document)], [conclusion(document)])


def runs(document: dict[str, Any]) -> Table:
    """Returns ours as a whole, what of it is the peer's work too, its stages, then the peer."""
    ours, samples = document["ours"], document["samples"]
    rows = [
        ["make engine, from the checkpoint to the verdict", str(samples), *cells(ours["seconds"])],
        ["its stages calibrate, lower and engine", str(samples), *cells(ours["same_work"])],
    ]
    rows += [[f"its stage {name}", "", *cells(found)] for name, found in ours["stages"].items()]
    label = "NNCF int8, from the float ONNX to the first answer"
    rows += [[label, str(row["samples"]), *cells(row["seconds"])] for row in document["peers"]]
    if document["skipped"]:
        rows.append([label, f"not run: {document['skipped']}"])
    return Table(["work", "samples", "seconds, median", "least to most"], rows)


def floor(document: dict[str, Any]) -> Table:
    """Returns what no such run goes without, and the sum."""
    rows = [[row["work"], *(f"{value:.1f}" for value in medians(row))] for row in document["floor"]]
    sums = [f"{value:.1f}" for value in total(document)]
    columns = ["the libraries' part, each by itself", "seconds, median", "CPU seconds"]
    return Table(columns, [*rows, ["together", *sums]])


def conclusion(document: dict[str, Any]) -> str:
    """Returns what the floor says about the whole run."""
    (seconds, cpu), threads = total(document), document["environment"]["threads"]
    whole = statistics.median(document["ours"]["seconds"])
    return (
        f"Without quantizers, statistics, rewrites, proofs, digests and the report, the libraries' part takes "
        f"{seconds:.1f} s one after the other, and at least {cpu / threads:.1f} s on {threads} cores however it "
        f"overlaps: no run of this kind is faster here. Ours takes {whole:.1f} s with all of them."
    )


def total(document: dict[str, Any]) -> tuple[float, float]:
    """Returns (seconds, CPU seconds) of the floor, sums of medians."""
    clock, cpu = zip(*map(medians, document["floor"]), strict=True)
    return sum(clock), sum(cpu)


def medians(row: dict[str, Any]) -> tuple[float, float]:
    return statistics.median(row["seconds"]), statistics.median(row["cpu_seconds"])


def cells(seconds: Sequence[float]) -> list[str]:
    """Returns the median and the range as text."""
    return [f"{statistics.median(seconds):.1f}", f"{min(seconds):.1f}–{max(seconds):.1f}"]
