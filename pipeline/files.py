"""Writes files whole or not at all, and computes the digests by which they are recognized."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SETTLED = 2.0  # seconds: two changes of a file less apart may bear the same time, on file systems that count seconds

Identity = tuple[int, ...]


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


def identity(path: Path) -> Identity | None:
    """Returns what is another one after every change of a file: where it lies, its size, and when it was changed.

    None for a file that was changed just now: one more change might not show. Raises OSError.
    """
    now, found = time.time(), path.stat()
    at = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return at if now - found.st_ctime > SETTLED else None  # a program may set the time of modification, not this one


class Digests:
    """The SHA-256 of files, each read once for as long as it keeps its identity."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[Identity, str]] = {}

    def sha256(self, path: Path) -> str:
        """Returns the SHA-256 of a file's bytes as hexadecimal digits."""
        before = identity(path)
        if before is None:
            return sha256(path)
        known = self._known.get(path)
        if known is None or known[0] != before:
            known = before, sha256(path)
            if identity(path) == before:  # not changed while it was read
                self._known[path] = known
        return known[1]


def digest_path(path: Path, of_file: Callable[[Path], str] = sha256) -> str:
    """Returns one digest of a file's bytes, or of all files under a folder and their relative names.

    of_file: gives the digest of one file's bytes.
    """
    if path.is_file():
        return of_file(path)
    digest = hashlib.sha256()
    for file in _files_under(path):
        line = f"{file.relative_to(path).as_posix()}\0{of_file(file)}\n"
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
