"""The artifact folder `exports/<model>/`: files that appear whole or not at all, and the manifest that vouches for
them.

A stage writes into a staging folder beside its targets. When it ends well, every file is flushed, renamed into place
and recorded in `manifest.json`, which is replaced last. A stage that fails, or is interrupted, leaves the folder as
it was.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pipeline.artifacts.manifest import MANIFEST, Manifest, is_as_sealed, require_own, sealed, stored
from pipeline.errors import ArtifactError, InputError
from pipeline.files import Digests, flush, sha256

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

__all__ = ["MANIFEST", "Manifest", "Workspace", "is_as_sealed", "require_own", "sealed"]


class Workspace:
    """One artifact folder: checked reading, transactional writing.

    recipe: of the present run, for the commands that messages print where the folder does not say what it was made
    with. digests: of the files that were read, each hashed again only after it changed.
    """

    def __init__(self, folder: Path, recipe: Recipe | None = None) -> None:
        self.folder = Path(folder)
        self.digests = Digests()
        self.ran: set[str] = set()  # stages that this process ran on the folder; the others are up to date
        self._recipe = recipe
        self._opened = time.perf_counter()
        self._read: tuple[bytes, Manifest] | None = None

    def seconds(self) -> float:
        """Returns the seconds since this object was made: of a whole run, which hands it from stage to stage."""
        return round(time.perf_counter() - self._opened, 3)

    @property
    def manifest(self) -> Manifest:
        """What the folder's manifest says now, to be read only. Raises ArtifactError where it is not to be trusted."""
        try:
            content = stored(self.folder)
            if content is None:
                return Manifest()
            if self._read is None or self._read[0] != content:
                self._read = content, Manifest.parse(content, self.folder / MANIFEST)
            return self._read[1]
        except ArtifactError as error:
            raise ArtifactError(f"{error}; remove it and {self.again()}.") from error

    def again(self, *options: str, verb: str = "engine", file: str | None = None) -> str:
        """Returns how to make the folder's files again, or to run another verb on them, as a clause: "run `…`".

        file: the backend is that of the stage that made it, else the one of the last run.
        """
        from pipeline import families
        from pipeline.artifacts import commands

        recorded: dict[str, Any] = {}
        with suppress(ArtifactError):
            manifest = Manifest.read(self.folder)
            recorded = dict(manifest.recipe)
            maker = manifest.files.get(file or "", {"stage": ""})["stage"].partition("/")[2]
            recorded.update({"backend": maker} if maker else {})
        if "family" not in recorded and self._recipe is not None:
            recorded = self._recipe.recorded()
        if recorded.get("family") not in families.names():
            return "run again the command that made the folder"
        return f"run `{commands.on_folder(verb, self.folder, recorded, *options)}`"

    def path(self, name: str) -> Path:
        """Returns the checked path of an artifact.

        Raises ArtifactError when it is missing, not recorded, outside the folder, or when its digest is not the
        recorded one.
        """
        path = self._inside(name)
        record = self.manifest.files.get(name)
        if not path.is_file():
            raise ArtifactError(f"{path} is missing; {self.again(file=name)}.")
        if record is None:
            raise ArtifactError(
                f"{path} is not recorded in {MANIFEST}: nothing vouches for it; {self.again(file=name)}."
            )
        if path.stat().st_size != record["bytes"] or self.digests.sha256(path) != record["sha256"]:
            raise ArtifactError(
                f"{path} was altered: its digest does not match the one that stage {record['stage']!r} recorded "
                f"({record['sha256'][:12]}…); {self.again(file=name)}."
            )
        return path

    def paths_of(self, stage: str) -> list[Path]:
        """Returns the checked paths of all that a stage made. Raises ArtifactError also where it never ran."""
        record = self.manifest.stages.get(stage)
        if record is None:
            raise ArtifactError(f"{self.folder} has no files of stage {stage!r}; {self.again()}.")
        return [self.path(name) for name in record["files"]]

    def _inside(self, name: str) -> Path:
        """Returns where a file of the folder lies. Raises ArtifactError where a link leads out of the folder."""
        path = self.folder / name
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.folder)):
            raise ArtifactError(
                f"{path} leads to {os.path.realpath(path)}, outside of the folder, where nothing vouches for it; "
                f"remove the link and {self.again(file=name)}."
            )
        return path

    def digest(self, name: str) -> str | None:
        """Returns the recorded digest of an artifact, None while there is none."""
        record = self.manifest.files.get(name)
        return record["sha256"] if record else None

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
        manifest = deepcopy(self.manifest)
        new = {}
        for file in sorted(p for p in area.rglob("*") if p.is_file()):
            flush(file)
            name = file.relative_to(area).as_posix()
            new[name] = {"sha256": sha256(file), "bytes": file.stat().st_size, "stage": stage}
        gone = [n for n, record in manifest.files.items() if record["stage"] == stage and n not in new]
        for name in gone:  # made by this stage before, not any more
            del manifest.files[name]
        manifest.files.update(new)
        manifest.recipe = facts.pop("recipe", manifest.recipe)
        manifest.stages[stage] = {**facts, "inputs": inputs, "files": sorted(new)}
        (area / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        flush(area / MANIFEST)
        self._swap(area, [*new, MANIFEST], gone)

    def _swap(self, area: Path, names: list[str], gone: list[str]) -> None:
        """Moves staged files into the folder, the manifest last, and removes `gone`: all or, on any fault, nothing."""
        old = area / ".old"
        for name in (*gone, *names):
            self._inside(PurePosixPath(name).parent.as_posix())
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
