"""`gpu-test`: builds, checks and times every engine of some folders on this machine's GPU; writes after every step."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.backends import tensorrt
from pipeline.backends._tensorrt.build import tactic_sources
from pipeline.bench import results
from pipeline.bench.gpu_test import record, steps, targets
from pipeline.bench.gpu_test.record import Record
from pipeline.bench.gpu_test.subjects import Subject
from pipeline.bench.methods.tensorrt import METHODS
from pipeline.measure import gpu
from pipeline.measure.process import call

log = logging.getLogger(__name__)

ROUNDS = 50
PACKAGES = ("numpy", "onnx", "onnxruntime", "tensorrt", "polygraphy")


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


def run(
    folders: Sequence[Path],
    file: Path,
    options: Options | None = None,
    command: str = "",
    announce: Callable[[str], None] = log.info,
) -> dict[str, Any]:
    """Returns the document in `file`, in which every engine of the folders has a row.

    What the file has already is not done again. command: what the document says it came from. Raises BackendUnavailable
    without a GPU or TensorRT, InputError for a folder that is not for this TensorRT, ArtifactError for one that is not
    whole.
    """
    options, made = options or Options(), tensorrt.maker()
    subjects = [Subject(folder) for folder in folders]
    about = {**vars(made), "target": tensorrt.target_of(made.tensorrt), "device": gpu.query()}
    about |= {"tactic_sources": tactic_sources(), "subjects": [subject.described() for subject in subjects]}
    state = Record.open(file, results.document(command, 1, packages=PACKAGES, **about))
    bench = Bench(state, options, announce)
    try:
        for only in (METHODS, None):  # first what answers the targets
            for subject in subjects:
                bench.subject(subject, only)
        state.document["finished"] = True
    except OutOfTime:
        announce(f"gpu-test: {options.seconds:g} seconds are over; the same command goes on where this one stopped")
    finally:
        state.write()
    return state.document


class Bench:
    """Fills a record, a step a process."""

    def __init__(self, state: Record, options: Options, announce: Callable[[str], None]) -> None:
        self._state, self._options, self._announce = state, options, announce
        self._start = time.monotonic()

    def subject(self, subject: Subject, only: Mapping[str, Any] | None = None) -> None:
        """Does what is left of a model: a row a method, then a timing a batch size. only: these methods, None: all."""
        known = self._state.subject(subject.name)
        names = [name for name in known["methods"] if only is None or name in only]
        layers = self._options.layers and str(self._options.layers)
        for name in names:
            row = self._state.find("rows", subject.name, name)
            if row is None or (self._options.retry and targets.faults(row)):
                entry = record.row(subject.name, name, subject.methods[name])
                self._step("rows", entry, "judge", str(subject.folder), name, layers)
        for size in known["batches"]:
            right = [name for name in names if self._is_right(subject, name, size)]
            before = self._state.find("timings", subject.name, size)
            again = self._options.retry and before is not None and (before["fault"] or before["faults"])
            if right and (before is None or not set(right) <= set(before["tried"]) or again):
                entry = record.timing(subject.name, size, right)
                self._step("timings", entry, "time_all", str(subject.folder), size, right, self._options.rounds)

    def _is_right(self, subject: Subject, name: str, size: int) -> bool:
        row = self._state.find("rows", subject.name, name)
        return row is not None and targets.is_right(row, size)

    def _step(self, kind: str, entry: dict[str, Any], function: str, *arguments: Any) -> None:
        """Puts an entry into the record; whatever goes wrong is its `fault`. Raises OutOfTime, and begins nothing."""
        limit = self._options.seconds
        if limit is not None and time.monotonic() - self._start > limit:
            raise OutOfTime
        what = ", ".join(str(entry[key]) for key in record.KEYS[kind])
        if not self._state.begin(kind, entry):
            self._announce(f"gpu-test: {what}: {record.KILLED}")
            return
        more = f": timing {len(entry['tried'])} engines" if kind == "timings" else ""
        self._announce(f"gpu-test: {what}{more}")
        try:
            entry |= call(f"the process for {what}", f"{steps.__name__}:{function}", *arguments)
        except KeyboardInterrupt:
            self._state.forget(kind, entry)
            raise
        except Exception as error:  # noqa: BLE001 -- whatever a runtime raises: the other engines are still to come
            entry["fault"] = steps.reason(error)
        self._state.put(kind, entry)
        for fault in targets.faults(entry) if kind == "rows" else filter(None, [entry["fault"]]):
            self._announce(f"gpu-test: {what}: {fault.splitlines()[0]}")


def left(document: Mapping[str, Any]) -> Iterator[str]:
    """Yields what of a document was not measured yet: "subject, method"."""
    known = {(row["subject"], row["method"]) for row in document["rows"]}
    for subject in document["subjects"]:
        for name in subject["methods"]:
            if (subject["name"], name) not in known:
                yield f"{subject['name']}, {name}"
