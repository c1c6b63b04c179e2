"""The engines of one model: built, judged, then timed in turns; every fault is a row with its reason."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.backends._tensorrt import plan
from pipeline.backends._tensorrt.engine import TensorRtEngine
from pipeline.bench.gpu_test import engines, judge, targets
from pipeline.errors import ArtifactError, PipelineError
from pipeline.measure import gpu

if TYPE_CHECKING:
    from pipeline.bench.gpu_test.opened import Case
    from pipeline.bench.gpu_test.record import Record

log = logging.getLogger(__name__)

ROUNDS = 50
LONGEST = 2000  # characters of a fault
VARIANT = ("label", "precision", "residual", "attention", "more", "form", "against", "question", "graph", "fault")
Loaded = dict[str, TensorRtEngine]
Variants = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Options:
    """rounds: timed runs of each engine. seconds: no step begins after them, None for no limit. retry: what failed
    before is tried again. layers: folder for what the inspector tells of every engine.
    """

    rounds: int = ROUNDS
    seconds: float | None = None
    retry: bool = False
    layers: Path | None = None


class OutOfTime(Exception):
    """The time that was given is over; everything up to here is in the record."""


class Bench:
    """Fills a record. plans: folder of the engines. target: the dialect of the TensorRT that is here."""

    def __init__(
        self, state: Record, target: str, plans: Path, options: Options, announce: Callable[[str], None]
    ) -> None:
        self._state, self._target, self._plans, self._options = state, target, plans, options
        self._announce, self._start = announce, time.monotonic()

    def subject(self, case: Case, only: Sequence[str] = ()) -> None:
        """Does what is left of a model: rows, then a timing a batch size. only: names of variants, all for none."""
        known = case.variants(self._target)
        variants = [v for v in known if not only or v["name"] in only]
        loaded: Loaded = {}
        for variant in variants:
            row = self._state.find("rows", case.name, variant["name"])
            if row is None or (self._options.retry and targets.faults(row)):
                entry = {**blank(case.name, variant), "same_as": twin(variant, known)}
                self._begin("rows", entry)
                self._state.put("rows", self._row(case, variant, entry, loaded))
        for size in case.batches:
            names = [v["name"] for v in variants if self._is_right(case, v["name"], size)]
            before = self._state.find("timings", case.name, size)
            again = self._options.retry and before is not None and (before["fault"] or before["faults"])
            if names and (before is None or not set(names) <= set(before["tried"]) or again):
                entry = empty_timing(case.name, size, names)
                self._begin("timings", entry)
                self._state.put("timings", self._timed(case, entry, loaded))

    def _begin(self, kind: str, entry: Mapping[str, Any]) -> None:
        """Writes what comes next. Raises OutOfTime where nothing may begin any more."""
        limit = self._options.seconds
        if limit is not None and time.monotonic() - self._start > limit:
            raise OutOfTime
        self._state.begin(kind, entry)
        what = entry["variant"] if kind == "rows" else f"timing {len(entry['tried'])} engines at batch {entry['batch']}"
        self._announce(f"gpu-test: {entry['subject']}, {what}")

    def _is_right(self, case: Case, name: str, size: int) -> bool:
        row = self._state.find("rows", case.name, name)
        return row is not None and targets.is_right(row, size)

    def _row(self, case: Case, variant: Mapping[str, Any], entry: Mapping[str, Any], loaded: Loaded) -> dict[str, Any]:
        """Returns the row of an engine after building and judging it; whatever goes wrong is its `fault`."""
        row = dict(entry)
        if row["fault"] or row["same_as"]:
            return row
        folder = self._plans / case.name / variant["name"]
        try:
            row["build"] = engines.build(case, variant, self._target, folder)
            engine = engines.load(folder)
            row.update(judge.judge(case, variant, engine, self._options.layers))
            loaded[variant["name"]] = engine
        except Exception as error:  # noqa: BLE001  whatever a runtime raises: the other engines are still to come
            row["fault"] = reason(error)
        for fault in targets.faults(row):
            self._announce(f"gpu-test: {case.name}, {variant['name']}: {fault.splitlines()[0]}")
        return row

    def _timed(self, case: Case, entry: Mapping[str, Any], loaded: Loaded) -> dict[str, Any]:
        """Returns a timing: all engines that run, in turns; `faults` says of the others why they do not."""
        found, before = dict(entry), gpu.query()
        feeds, _ = case.samples.batch(entry["batch"])
        runs = {}
        for name in entry["tried"]:
            try:
                if name not in loaded:
                    loaded[name] = self._again(case, name)
                runs[name] = loaded[name].resident(feeds)
            except Exception as error:  # noqa: BLE001  as above: memory may not do for all of them
                found["faults"] = {**found["faults"], name: reason(error)}
                self._announce(f"gpu-test: {case.name}, {name}: {reason(error).splitlines()[0]}")
        try:
            found.update(engines.time_all(runs, self._options.rounds))
        except Exception as error:  # noqa: BLE001  as above
            found["fault"] = reason(error)
            self._announce(f"gpu-test: {case.name}, batch {entry['batch']}: {found['fault'].splitlines()[0]}")
        return {**found, "clocks": {"before": before, "after": gpu.query()}}

    def _again(self, case: Case, name: str) -> TensorRtEngine:
        """Returns an engine that an earlier run judged, built anew where its plan is gone or of another graph."""
        folder = self._plans / case.name / name
        row = self._state.find("rows", case.name, name)
        assert row is not None
        try:
            if plan.read(folder).graph_sha256 == row["build"]["graph_sha256"]:
                return engines.load(folder)
        except ArtifactError as error:
            log.info("%s: %s", name, error)
        variant = next(v for v in case.variants(self._target) if v["name"] == name)
        engines.build(case, variant, self._target, folder)
        return engines.load(folder)


def blank(subject: str, variant: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the row of an engine of which nothing is known yet."""
    own = {key: variant[key] for key in VARIANT}
    unknown: dict[str, Any] = {"same_as": None, "build": None, "parity": [], "float": None, "batches": []}
    return {"subject": subject, "variant": variant["name"], **own, **unknown, "accuracy": None, "inspector": []}


def empty_timing(subject: str, batch: int, names: Sequence[str]) -> dict[str, Any]:
    """Returns a timing that was not taken yet. fault: of all engines together, faults: by engine."""
    none: dict[str, Any] = {"fault": None, "faults": {}, "calls": 0, "rounds": 0, "ms": {}, "clocks": None}
    return {"subject": subject, "batch": batch, "tried": list(names), **none}


def twin(variant: Mapping[str, Any], variants: Variants) -> str | None:
    """Returns the first variant with the same graph in the same precision, None where it is the first itself."""
    if variant["graph"] is None:
        return None
    same = (v["name"] for v in variants if all(v[key] == variant[key] for key in ("graph", "precision")))
    first = str(next(same))
    return None if first == variant["name"] else first


def reason(error: Exception) -> str:
    """Returns what a fault says, with its class where it is none of ours."""
    text = str(error) if isinstance(error, PipelineError) else f"{type(error).__name__}: {error}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
