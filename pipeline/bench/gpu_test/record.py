"""The result file: read when a run goes on where one stopped, written after every step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.bench import results
from pipeline.bench.gpu_test import targets
from pipeline.errors import InputError, in_short
from pipeline.judge.accuracy import finite

IDENTITY = ("pack", "tensorrt", "gpu", "compute_capability")  # what the rows of one file have in common
KEYS = {"rows": ("subject", "variant"), "timings": ("subject", "batch")}
EMPTY: Mapping[str, Any] = {"rows": [], "timings": [], "targets": [], "finished": False, "running": None}


class Record:
    """Rows by (subject, variant) and timings by (subject, batch) of one pack on one machine."""

    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        self.path, self.document = path, document

    @classmethod
    def open(cls, path: Path, about: Mapping[str, Any]) -> Record:
        """Returns the record in a file, or a new one of `about`.

        Raises InputError for one of another pack or machine.
        """
        if not path.exists():
            return cls(path, {**about, **{key: finite(value) for key, value in EMPTY.items()}})
        document = read(path)
        other = [f"{key} {document[key]}, here {about[key]}" for key in IDENTITY if document[key] != about[key]]
        if other:
            raise InputError(f"{path} was measured with {'; '.join(other)}; give another --record, or remove the file.")
        return cls(path, {**document, "running": None, "finished": False})

    def find(self, kind: str, *key: Any) -> dict[str, Any] | None:
        """Returns the row of (subject, variant), or the timing of (subject, batch); None where there is none yet."""
        return next((entry for entry in self.document[kind] if tuple(entry[k] for k in KEYS[kind]) == key), None)

    def begin(self, kind: str, entry: Mapping[str, Any]) -> None:
        """Writes what is being worked on: the entry that stands for it should this process die."""
        self.document["running"] = {"kind": kind, "entry": dict(entry)}
        self.write()

    def put(self, kind: str, entry: Mapping[str, Any]) -> None:
        """Adds an entry, in place of an earlier one of the same key, and writes the file."""
        entries = self.document[kind]
        known = self.find(kind, *(entry[key] for key in KEYS[kind]))
        if known is None:
            entries.append(dict(entry))
        else:
            entries[entries.index(known)] = dict(entry)
        self.document["running"] = None
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
        missing = [key for key in (*IDENTITY, *EMPTY) if key not in document]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is no result of gpu-test ({in_short(error)}); give another --record.") from error
    if missing:
        raise InputError(f"{path} is no result of gpu-test (it has no {', '.join(missing)}); give another --record.")
    return dict(document)
