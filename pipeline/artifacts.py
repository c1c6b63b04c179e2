"""The artifact folder `exports/<model>/`: files that appear whole or not at all, and the manifest that vouches for
them.

A stage writes into a staging folder beside its targets. When it ends well, every file is flushed, renamed into place
and recorded in `manifest.json`, which is replaced last. A stage that fails, or is interrupted, leaves the folder as
it was.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import ArtifactError, InputError

MANIFEST = "manifest.json"
FORMAT = 1


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
    """Returns one digest for a file, or for every file of a folder with its relative name."""
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

    found, seen = [], {folder.resolve()}
    for at, folders, names in os.walk(folder, followlinks=True, onerror=fail):
        found += [Path(at) / name for name in names]
        folders[:] = [
            name for name in folders if (inner := (Path(at) / name).resolve()) not in seen and not seen.add(inner)
        ]
    return sorted(path for path in found if path.is_file())


@dataclass
class Manifest:
    """What `manifest.json` says: every file with the stage that made it, every stage with its inputs."""

    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Returns the folder's manifest, an empty one where there is none.

        Raises ArtifactError when the file is not a manifest of this format.
        """
        path = folder / MANIFEST
        if not path.exists():
            return cls()
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            if value["format"] != FORMAT:
                raise ArtifactError(
                    f"{path} has format {value['format']}, this version reads {FORMAT}; "
                    f"remove the folder and run `make engine` again."
                )
            return cls(files=value["files"], stages=value["stages"], recipe=value.get("recipe", {}))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"{path} is not a manifest ({error}); remove it and run `make engine` again."
            ) from error

    def to_json(self) -> str:
        return json.dumps(
            {"format": FORMAT, "recipe": self.recipe, "stages": self.stages, "files": self.files}, indent=1
        )


class Workspace:
    """One artifact folder: checked reading, transactional writing."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.ran: set[str] = set()  # stages that this process ran on the folder; the others are up to date
        self._opened = time.perf_counter()

    def seconds(self) -> float:
        """Returns the seconds since this object was made: of a whole run, which hands it from stage to stage."""
        return round(time.perf_counter() - self._opened, 3)

    @property
    def manifest(self) -> Manifest:
        return Manifest.read(self.folder)

    def path(self, name: str) -> Path:
        """Returns the checked path of an artifact.

        Raises ArtifactError when it is missing, not recorded, or when its digest is not the recorded one.
        """
        path = self.folder / name
        record = self.manifest.files.get(name)
        again = f"`make engine MODEL={self.folder.name}` rebuilds it"
        if not path.is_file():
            raise ArtifactError(f"{path} is missing; {again}.")
        if record is None:
            raise ArtifactError(f"{path} is not recorded in {MANIFEST}: nothing vouches for it; {again}.")
        if path.stat().st_size != record["bytes"] or sha256(path) != record["sha256"]:
            raise ArtifactError(
                f"{path} was altered: its digest does not match the one that stage {record['stage']!r} recorded "
                f"({record['sha256'][:12]}…); {again}."
            )
        return path

    def intact(self, name: str) -> bool:
        """Returns whether an artifact is there and matches its recorded digest."""
        try:
            self.path(name)
        except ArtifactError:
            return False
        return True

    @contextmanager
    def staging(self, stage: str, inputs: Mapping[str, Any], facts: dict[str, Any]) -> Iterator[Path]:
        """Yields a folder to write a stage's files into; on a clean exit they replace the old ones together.

        `inputs` is what the stage's result depends on (see `stages.why_stale`); `facts` is read at the end and recorded
        with the stage (seconds, peak memory, versions …).
        """
        area = self.folder / f".{stage.replace('/', '-')}.{os.getpid()}.partial"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            area.mkdir()
            yield area
            self._commit(stage, area, dict(inputs), facts)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                free = shutil.disk_usage(self.folder).free
                raise InputError(
                    f"the disk is full: stage {stage!r} could not write to {self.folder} "
                    f"({free / 2**20:.0f} MiB free). Earlier artifacts are unchanged; free some space and run again."
                ) from error
            raise
        finally:
            shutil.rmtree(area, ignore_errors=True)

    def _commit(self, stage: str, area: Path, inputs: dict[str, Any], facts: dict[str, Any]) -> None:
        manifest = self.manifest
        new = {}
        for file in sorted(p for p in area.rglob("*") if p.is_file()):
            _flush(file)
            name = file.relative_to(area).as_posix()
            new[name] = {"sha256": sha256(file), "bytes": file.stat().st_size, "stage": stage}
        gone = [n for n, record in manifest.files.items() if record["stage"] == stage and n not in new]
        for name in gone:  # made by this stage before, not any more
            del manifest.files[name]
        manifest.files.update(new)
        manifest.recipe = facts.pop("recipe", manifest.recipe)
        manifest.stages[stage] = {**facts, "inputs": inputs, "files": sorted(new)}
        (area / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        _flush(area / MANIFEST)
        self._swap(area, [*new, MANIFEST], gone)

    def _swap(self, area: Path, names: list[str], gone: list[str]) -> None:
        """Moves staged files into the folder, the manifest last, and removes `gone`: all or, on any fault, nothing."""
        old = area / ".old"
        try:
            for name in (*gone, *names):
                target = self.folder / name
                for path in (target, old / name):
                    path.parent.mkdir(parents=True, exist_ok=True)
                if target.exists():
                    _keep(target, old / name)
                if name in gone:
                    target.unlink(missing_ok=True)
                else:
                    (area / name).replace(target)
        except BaseException:  # Ctrl-C too
            for name in (*gone, *names):
                if (old / name).exists():
                    (old / name).replace(self.folder / name)
                elif name in names and not (area / name).exists():
                    (self.folder / name).unlink(missing_ok=True)
            raise


def _keep(target: Path, old: Path) -> None:
    """Makes `old` a second name of a file, or a copy where the file system has no hard links."""
    try:
        os.link(target, old)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        shutil.copy2(target, old)


def write_atomic(path: Path, content: bytes) -> None:
    """Replaces `path` by `content` in one step: written aside, flushed to disk, renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        aside.write_bytes(content)
        _flush(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
