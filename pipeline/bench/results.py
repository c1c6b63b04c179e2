"""Result files: what `--record` writes, and the tables of README and docs/ are made from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.files import write_atomic
from pipeline.measure import machine
from pipeline.measure.versions import PACKAGES, versions

WITH_PEERS = (*PACKAGES, "nncf", "nvidia-modelopt")


def document(command: str, threads: int, *, packages: Sequence[str] = PACKAGES, **measured: Any) -> dict[str, Any]:
    """Returns a result: the command line it came from, what was measured, then where, when and with which versions."""
    return {"command": command, **measured, "environment": machine.environment(threads, versions(*packages))}


def shapes_of(arrays: Mapping[str, Any]) -> dict[str, list[int]]:
    """Returns the shapes of a benchmark's inputs, by name."""
    return {name: list(value.shape) for name, value in arrays.items()}


def write(found: Any, *files: Path | None) -> None:
    """Replaces each file by a result as JSON, in one step; its folder is made. None: no file was asked for."""
    for file in filter(None, files):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(found, indent=1).encode())


def add(found: dict[str, Any], *files: Path | None, same: Sequence[str]) -> None:
    """Adds a result to files of several; one that is equal in all of `same` is replaced."""
    for file in filter(None, files):
        before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        write([other for other in before if any(other[key] != found[key] for key in same)] + [found], file)
