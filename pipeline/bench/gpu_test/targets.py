"""What was asked of the engines, and whether it was met: computed from the rows, typed by nobody."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.bench.gpu_test.options import BASE, DEFAULT
from pipeline.measure import latency

Row = Mapping[str, Any]

# {subject: {batch: least median speed-up of int8 over TensorRT's own fp16}}
SPEEDUPS: Mapping[str, Mapping[int, float]] = {
    "gpu-bert-base": {1: 1.2, 32: 1.7},
    "gpu-segformer-b0": {1: 1.0, 8: 1.0, 32: 1.0},
    "gpu-segformer": {1: 1.0, 8: 1.0, 32: 1.0},
}


def evaluate(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns a row for every target of a document's subjects: {what, subject, batch, method, limit, value, met, why}.

    What was not measured is not met.
    """
    found = []
    for subject in document["subjects"]:
        name = subject["name"]
        rows = [row for row in document["rows"] if row["subject"] == name]
        best = fastest(document, name)
        limits = SPEEDUPS.get(name, {})
        found += [speed(document, name, batch, limits[batch], best) for batch in limits if batch in subject["batches"]]
        if subject["judged"]:
            found.append(accurate(name, rows))
        found.append(right(document, subject, rows))
    return found


def speed(document: Mapping[str, Any], subject: str, batch: int, limit: float, best: str | None) -> dict[str, Any]:
    """Returns the target of a speed-up: that of the fastest int8 engine, the same at every batch size."""
    value = speedup(document, subject, batch, best, BASE) if best else None
    return {
        "what": "speed-up of int8 over fp16",
        "subject": subject,
        "batch": batch,
        "method": best,
        "limit": limit,
        "value": value,
        "met": bool(value and value["median"] >= limit),
        "why": None if value else f"no int8 and {BASE} engine that are both right were timed",
    }


def accurate(subject: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Returns the target that the default int8 engine is within the accuracy budgets."""
    row = next((r for r in rows if r["method"] == DEFAULT), None)
    missed = row["accuracy"]["missed"] if row and row["accuracy"] else ["not measured"]
    return _target("accuracy of int8 within the budgets", subject, DEFAULT, missed)


def right(document: Mapping[str, Any], subject: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """Returns the target that every engine is built, right and timed; those that answer a question may fail."""
    known = {row["method"]: row for row in rows}
    wrong = [f"{name}: not measured" for name in subject["methods"] if name not in known]
    wrong += [f"{name}: {fault}" for name, r in known.items() if not r["question"] for fault in faults(r)[:1]]
    for timing in timings(document, subject["name"]):
        at = f"timing at batch {timing['batch']}"
        wrong += [f"{at}: {timing['fault']}"] if timing["fault"] else []
        wrong += [f"{name}, {at}: {why}" for name, why in timing["faults"].items() if not known[name]["question"]]
    return _target("every engine computes its graph", subject["name"], None, wrong)


def _target(what: str, subject: str, method: str | None, wrong: Sequence[str]) -> dict[str, Any]:
    none = {"batch": None, "limit": None, "value": None}
    return {"what": what, "subject": subject, "method": method, **none, "met": not wrong, "why": "; ".join(wrong)}


def faults(row: Row) -> list[str]:
    """Returns everything that is wrong with an engine; its accuracy is judged by itself."""
    found: list[str] = [*([row["fault"]] if row["fault"] else []), *row["faults"]]
    return found + [f"batch {b['batch']}: {b['fault']}" for b in row["batches"] if b["fault"]]


def is_right(row: Row, batch: int) -> bool:
    """Returns whether an engine may be timed at a batch size: it computes its graph, there too."""
    if row["fault"] or row["faults"]:
        return False
    return any(b["batch"] == batch and not b["fault"] for b in row["batches"])


def fastest(document: Mapping[str, Any], subject: str) -> str | None:
    """Returns the int8 engine with the best speed-up over all timed batch sizes (geometric mean), None without one.

    One engine serves all batch sizes, so no batch has its own. Those that answer a question do not take part.
    """
    rows = [r for r in document["rows"] if r["subject"] == subject and r["precision"] == "int8" and not r["question"]]
    batches = [timing["batch"] for timing in timings(document, subject)]
    means = {}
    for row in rows:
        ratios = [speedup(document, subject, batch, row["method"], BASE) for batch in batches]
        if ratios and all(ratios):
            means[row["method"]] = math.fsum(math.log(ratio["median"]) for ratio in ratios if ratio) / len(ratios)
    return max(means, key=lambda name: means[name]) if means else None


def speedup(document: Mapping[str, Any], subject: str, batch: int, method: str, base: str) -> dict[str, float] | None:
    """Returns {median, low, high} of `method` over `base` in the same rounds, None where one of them was not timed."""
    for timing in timings(document, subject):
        if timing["batch"] == batch and {method, base} <= set(timing["ms"]):
            return latency.speedup(timing["ms"][base], timing["ms"][method])
    return None


def timings(document: Mapping[str, Any], subject: str) -> list[Row]:
    """Returns the timings of a subject, a batch size each."""
    return [timing for timing in document["timings"] if timing["subject"] == subject]


def result(target: Row) -> str:
    """Returns what was found for a target: the speed-up beside its limit, or why it was missed, "" where it was met."""
    value = target["value"]
    if value is None:
        return str(target["why"] or "")
    return f"{value['median']:.2f} ({value['low']:.2f}–{value['high']:.2f}), at least {target['limit']:g}"
