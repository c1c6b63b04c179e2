"""The stored baseline of a model, and what changed in a later report beyond the noise.

A baseline carries a digest of its own content, so that no edit goes unnoticed. That is no signature: anyone can store
another one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.artifacts import Workspace, is_as_sealed, sealed
from pipeline.errors import ArtifactError, InputError, in_short
from pipeline.files import digest_of, write_atomic
from pipeline.report import schema

FILE = "baseline.json"
FORMAT = 2
SAME = ("family", "checkpoint", "task", "backend")
KEPT = ("model", *SAME, "precision", "accuracy", "latency", "size", "environment")
NORMAL_95 = 1.96
# What may change without being called a regression.
MARGINS = {
    "accuracy": 0.001,  # absolute; at least, as few samples widen it: see accuracy_margin
    "engine_size": 0.02,  # relative
    "int8_flop_share": 0.01,  # absolute
}


@dataclass(frozen=True)
class Change:
    """One quantity before and now."""

    name: str
    before: str
    now: str
    regression: bool
    note: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.before} -> {self.now}" + (f" ({self.note})" if self.note else "")


def store(report: Mapping[str, Any], folder: Path, file: Path | None = None) -> dict[str, Any]:
    """Returns the baseline of a report, after writing it to `file`, by default <folder>/baseline.json."""
    schema.validate(report)
    precision = {key: value for key, value in report["precision_report"].items() if key != "layers"}
    latency = {key: value for key, value in report["latency"].items() if key != "samples"}
    kept = {key: report[key] for key in KEPT} | {"latency": latency, "precision_report": precision}
    source = {"report": digest_of(report), "engine": report.get("judged")}
    baseline = sealed({"format": FORMAT, **kept, "held_out": report.get("held_out"), "made_of": source})
    path = file or folder / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(baseline, indent=1).encode())
    return baseline


def read(folder: Path, file: Path | None = None) -> dict[str, Any]:
    """Returns the stored baseline.

    Raises InputError where there is none, and ArtifactError where the file is something else or was altered.
    """
    path, again = file or folder / FILE, Workspace(folder).again("--store-baseline")
    if not path.is_file():
        raise InputError(f"{path} is missing: there is no baseline to compare with; to store one, {again}.")
    again = f"to store it again, {again}"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["format"] != FORMAT:
            raise ArtifactError(f"{path} has format {value['format']!r}, this version reads {FORMAT}; {again}.")
        if not is_as_sealed(value):
            raise ArtifactError(f"{path} was changed after it was stored; {again}.")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is not a baseline ({in_short(error)}); {again}.") from error
    _require_numbers(value, f"{path}; {again}")
    return value  # type: ignore[no-any-return]


class _Shares(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)

    int8_flop_share: float = Field(ge=0, le=1)


class _Compared(BaseModel):
    """What is compared of a report and a baseline; numbers, not text that looks like them."""

    family: str
    checkpoint: str
    task: str
    backend: str
    accuracy: schema.Accuracy
    latency: schema.Latency
    size: schema.Size
    precision_report: _Shares
    environment: schema.Environment


def _require_numbers(document: Mapping[str, Any], where: str) -> None:
    """Raises ArtifactError naming every number that is missing, not finite or impossible."""
    try:
        _Compared.model_validate(document, strict=True)
    except ValidationError as error:
        faults = "\n".join(f"  {'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ArtifactError(f"nothing to compare with:\n{faults}\nin {where}.") from error


def accuracy_margin(before: Mapping[str, Any], now: Mapping[str, Any]) -> float:
    """Returns how far the metric may fall by chance.

    Both runs saw the same samples, so only predictions that changed can move the mean. With a share d of the n
    predictions unlike float's in either run, the difference of the means has at most the variance d/n (McNemar 1947,
    for paired proportions); the margin is 1.96 standard deviations.
    """
    changed = (1 - before["agreement"]) + (1 - now["agreement"])
    return max(MARGINS["accuracy"], NORMAL_95 * sqrt(changed / min(before["samples"], now["samples"])))


def compare(report: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[Change]:
    """Returns every compared quantity; `regression` marks those that are worse beyond the noise.

    The folder may have been renamed. Raises InputError when families, tasks, checkpoints, backends, metrics or held-out
    samples differ, and where either lacks a number.
    """
    for document, name in ((report, "this report"), (baseline, "the baseline")):
        _require_numbers(document, name)
    for key, before, now in _identity(baseline, report):
        if before != now:
            raise InputError(
                f"the baseline is of {key} {before!r}, this report of {now!r}; compare equal things, or store a new "
                "baseline."
            )
    return [
        *_accuracy(report["accuracy"], baseline["accuracy"]),
        _speed(report, baseline),
        _size(report["size"]["engine"], baseline["size"]["engine"]),
        _int8(report["precision_report"], baseline["precision_report"]),
    ]


def _identity(baseline: Mapping[str, Any], report: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns (name, before, now) of everything that must be equal; the samples by verify's digest of them."""
    before, now = (str(x.get("held_out"))[:12] for x in (baseline, report))
    return [
        *((key, baseline[key], report[key]) for key in SAME),
        ("metric", baseline["accuracy"]["metric"], report["accuracy"]["metric"]),
        ("held-out samples", before, now),
    ]


def _accuracy(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[Change]:
    margin = accuracy_margin(before, now)
    changes = []
    for name, key in ((now["metric"], "engine"), ("agreement", "agreement")):
        fell = before[key] - now[key]
        note = f"margin {margin:.4f}"
        if before["samples"] != now["samples"]:
            note += f", {before['samples']} samples before and {now['samples']} now"
        changes.append(Change(name, f"{before[key]:.4f}", f"{now[key]:.4f}", fell > margin, note))
    return changes


def _speed(report: Mapping[str, Any], baseline: Mapping[str, Any]) -> Change:
    """Returns the change of the speed-up: a regression only where the 95 % intervals do not meet."""
    now, before = report["latency"]["speedup"], baseline["latency"]["speedup"]
    old, new = map(_interval, (before, now))
    if now is None or before is None:
        missing = "the baseline" if before is None else "this run"
        return Change("speed-up", old, new, False, f"not judged: {missing} has none")
    places = [_place(x) for x in (baseline, report)]
    if places[0] != places[1]:
        was = ", ".join(f"{part}" for part in places[0]) + " threads"
        return Change("speed-up", old, new, False, f"not judged: the baseline is from another machine ({was})")
    return Change("speed-up", old, new, now["high"] < before["low"], "95 % intervals")


def _place(report: Mapping[str, Any]) -> tuple[str, str, int]:
    """Returns where a report was timed: processor, its class (unknown in early ones), threads."""
    about = report["environment"]
    return about["cpu"], about.get("processor", "class unknown"), report["latency"]["threads"]


def _interval(speedup: Mapping[str, float] | None) -> str:
    return "–" if speedup is None else f"{speedup['median']:.2f} [{speedup['low']:.2f}, {speedup['high']:.2f}]"


def _size(now: int, before: int) -> Change:
    grown = now / before - 1
    return Change("engine bytes", str(before), str(now), grown > MARGINS["engine_size"], f"{grown:+.1%}")


def _int8(now: Mapping[str, Any], before: Mapping[str, Any]) -> Change:
    fell = before["int8_flop_share"] - now["int8_flop_share"]
    old, new = (f"{x['int8_flop_share']:.4f}" for x in (before, now))
    return Change("int8 share of the arithmetic", old, new, fell > MARGINS["int8_flop_share"])
