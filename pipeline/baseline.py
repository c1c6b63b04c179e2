"""The stored baseline of a model, and what a later report changed against it beyond the noise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from pipeline import report_schema
from pipeline.artifacts import write_atomic
from pipeline.errors import ArtifactError, InputError

FILE = "baseline.json"
FORMAT = 1
KEPT = ("model", "checkpoint", "task", "backend", "precision", "accuracy", "latency", "size", "environment")
NORMAL_95 = 1.96
# What may change without being called a regression.
MARGINS = {
    "accuracy": 0.001,  # at least this, absolute; few samples widen it, see accuracy_margin
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
    """Returns the baseline made of a report after writing it to `file`, by default <folder>/baseline.json."""
    report_schema.validate(report)
    precision = {key: value for key, value in report["precision_report"].items() if key != "layers"}
    latency = {key: value for key, value in report["latency"].items() if key != "samples"}
    kept = {key: report[key] for key in KEPT} | {"latency": latency, "precision_report": precision}
    baseline = {"format": FORMAT, **kept}
    path = file or folder / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(baseline, indent=1).encode())
    return baseline


def read(folder: Path, file: Path | None = None) -> dict[str, Any]:
    """Returns the stored baseline.

    Raises InputError where there is none and ArtifactError where the file is not one.
    """
    path = file or folder / FILE
    if not path.is_file():
        raise InputError(
            f"{path} is missing: there is no baseline to compare with; "
            f"store one with `make engine MODEL={folder.name} ARGS=--store-baseline`."
        )
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["format"] != FORMAT:
            raise ArtifactError(f"{path} has format {value['format']}, this version reads {FORMAT}; store it again.")
        missing = [key for key in (*KEPT, "precision_report") if key not in value]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is not a baseline ({error}); store it again.") from error
    if missing:
        raise ArtifactError(f"{path} lacks {', '.join(missing)}; store it again.")
    return value  # type: ignore[no-any-return]


def accuracy_margin(before: Mapping[str, Any], now: Mapping[str, Any]) -> float:
    """Returns how far the metric may fall by chance.

    Both runs saw the same samples, so only predictions that changed can move the mean. With a share d of the
    n predictions unlike float's in either run, the difference of the means has the variance d/n at most
    (McNemar 1947 for paired proportions); 1.96 standard deviations are the margin.
    """
    changed = (1 - before["agreement"]) + (1 - now["agreement"])
    return max(MARGINS["accuracy"], NORMAL_95 * sqrt(changed / min(before["samples"], now["samples"])))


def compare(report: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[Change]:
    """Returns every compared quantity; `regression` marks those worse than the noise explains.

    Raises InputError when the two are of different models, tasks, checkpoints or backends.
    """
    for key in ("model", "checkpoint", "task", "backend"):
        if report[key] != baseline[key]:
            raise InputError(
                f"the baseline is of {key} {baseline[key]!r}, this report of {report[key]!r}; compare equal "
                f"things, or store a new baseline."
            )
    return [
        *_accuracy(report["accuracy"], baseline["accuracy"]),
        _speed(report, baseline),
        _size(report["size"]["engine"], baseline["size"]["engine"]),
        _int8(report["precision_report"], baseline["precision_report"]),
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
