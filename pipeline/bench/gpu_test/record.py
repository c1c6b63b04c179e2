"""The result file: read when a run goes on where one stopped, written after every step.

A step that was begun and never ended was killed together with the whole program, say by the machine's batch system. It
is begun again, but not for ever: after MOST such ends it has a row with a fault like any other that fails.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.bench import results
from pipeline.bench.gpu_test import targets
from pipeline.bench.gpu_test.options import Option
from pipeline.bench.methods.tensorrt import TensorRt
from pipeline.errors import InputError, in_short
from pipeline.judge.accuracy import finite

IDENTITY = ("tensorrt", "gpu", "compute_capability")  # what the rows of one file have in common
KEYS = {"rows": ("subject", "method"), "timings": ("subject", "batch")}
EMPTY: Mapping[str, Any] = {"rows": [], "timings": [], "targets": [], "attempts": {}, "finished": False}
MOST = 2  # attempts at a step
LISTS = ("faults", "parity", "batches", "inspector")  # of a row
KILLED = f"gpu-test was killed {MOST} times while it worked on this; --retry tries again"


class Record:
    """Rows by (subject, method) and timings by (subject, batch) of one machine."""

    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        self.path, self.document = path, document

    @classmethod
    def open(cls, path: Path, about: Mapping[str, Any]) -> Record:
        """Returns the record in a file, or a new one of `about`; subjects that are new in `about` are added.

        Raises InputError for one of another machine, and for a subject whose files are others now.
        """
        if not path.exists():
            return cls(path, {**about, **{key: finite(value) for key, value in EMPTY.items()}})
        document = read(path)
        other = [f"{key} {document[key]}, here {about[key]}" for key in IDENTITY if document[key] != about[key]]
        before = {subject["name"]: subject for subject in document["subjects"]}
        now = {subject["name"]: subject for subject in about["subjects"]}
        other += [f"other files of {name}" for name in now if name in before and _digests(before, now, name)]
        if other:
            raise InputError(f"{path} was measured with {'; '.join(other)}; give another --record, or remove the file.")
        return cls(path, {**document, "subjects": list({**before, **now}.values()), "finished": False})

    def subject(self, name: str) -> dict[str, Any]:
        """Returns what the document says of a subject."""
        found: dict[str, Any] = next(subject for subject in self.document["subjects"] if subject["name"] == name)
        return found

    def find(self, kind: str, *key: Any) -> dict[str, Any] | None:
        """Returns the row of (subject, method), or the timing of (subject, batch); None where there is none yet."""
        return next((entry for entry in self.document[kind] if _key(kind, entry) == key), None)

    def begin(self, kind: str, entry: Mapping[str, Any]) -> bool:
        """Returns whether a step may begin, after counting the attempt; where it may not, its entry says why."""
        attempts, name = self.document["attempts"], _name(kind, entry)
        if attempts.get(name, 0) >= MOST:
            self.put(kind, {**entry, "fault": KILLED})
            return False
        attempts[name] = attempts.get(name, 0) + 1
        self.write()
        return True

    def forget(self, kind: str, entry: Mapping[str, Any]) -> None:
        """Takes an attempt back that a user ended."""
        attempts, name = self.document["attempts"], _name(kind, entry)
        attempts[name] -= 1

    def put(self, kind: str, entry: Mapping[str, Any]) -> None:
        """Adds an entry, in place of an earlier one of the same key, and writes the file."""
        entries = self.document[kind]
        known = self.find(kind, *_key(kind, entry))
        if known is None:
            entries.append(dict(entry))
        else:
            entries[entries.index(known)] = dict(entry)
        self.document["attempts"].pop(_name(kind, entry), None)
        self.write()

    def write(self) -> None:
        """Writes the file, with the targets as they stand."""
        self.document = finite(self.document)
        self.document["targets"] = targets.evaluate(self.document)
        results.write(self.document, self.path)


def read(path: Path) -> dict[str, Any]:
    """Returns the document in a file. Raises InputError for one that gpu-test did not write."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in (*IDENTITY, "subjects", *EMPTY) if key not in document]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is no result of gpu-test ({in_short(error)}); give another --record.") from error
    if missing:
        raise InputError(f"{path} is no result of gpu-test (it has no {', '.join(missing)}); give another --record.")
    return dict(document)


def row(subject: str, name: str, method: TensorRt) -> dict[str, Any]:
    """Returns the row of an engine of which nothing is known yet."""
    asked = {"against": method.against, "question": method.question} if isinstance(method, Option) else {}
    about = {"label": method.label, "precision": method.precision, "against": None, "question": None, **asked}
    unknown: dict[str, Any] = {"fault": None, "build": None, "accuracy": None, **{key: [] for key in LISTS}}
    return {"subject": subject, "method": name, **about, **unknown}


def timing(subject: str, batch: int, names: Sequence[str]) -> dict[str, Any]:
    """Returns a timing that was not taken yet. fault: of all engines together, faults: by engine."""
    none: dict[str, Any] = {"fault": None, "faults": {}, "calls": 0, "rounds": 0, "ms": {}, "clocks": None}
    return {"subject": subject, "batch": batch, "tried": list(names), **none}


def _key(kind: str, entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(entry[key] for key in KEYS[kind])


def _name(kind: str, entry: Mapping[str, Any]) -> str:
    return ", ".join([kind, *map(str, _key(kind, entry))])


def _digests(before: Mapping[str, Any], now: Mapping[str, Any], name: str) -> bool:
    return bool(before[name]["digest"] != now[name]["digest"])
