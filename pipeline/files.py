"""Writes files whole or not at all, and computes the digests by which they are recognized."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def digest_of(value: Any) -> str:
    """Returns a short digest of a JSON-like value, for comparing settings."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_path(path: Path) -> str:
    """Returns one digest of a file's bytes, or of all files under a folder and their relative names."""
    if path.is_file():
        return sha256(path)
    digest = hashlib.sha256()
    for file in _files_under(path):
        line = f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))  # file names are bytes
    return digest.hexdigest()


def _files_under(folder: Path) -> list[Path]:
    """Returns every file of a folder in order, those of linked folders too; a link back into itself ends there.

    Raises OSError for a folder that cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    files, seen = [], set()
    for at, folders, names in os.walk(folder, followlinks=True, onerror=fail):
        real = Path(at).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()  # of two links to one folder the same one counts everywhere
        files += [Path(at) / name for name in names]
    return sorted(path for path in files if path.is_file())


def write_atomic(path: Path, content: bytes) -> None:
    """Replaces `path` by `content` in one step: written aside, flushed to disk, renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        aside.write_bytes(content)
        flush(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Waits until a file is on the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
