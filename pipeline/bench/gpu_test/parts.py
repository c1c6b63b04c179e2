"""A folder as one compressed archive in parts that are small enough to copy."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

PREFIX = "pack.tar.xz.part-"
SUMS = "SHA256SUMS"


class Parts(io.RawIOBase):
    """A stream that goes on in the next file whenever one is full."""

    def __init__(self, folder: Path, size: int) -> None:
        super().__init__()
        self._folder, self._size, self._stream, self._left = folder, size, io.BytesIO(), 0
        self.paths: list[Path] = []

    def writable(self) -> bool:
        return True

    def write(self, content: bytes) -> int:  # type: ignore[override]
        view = memoryview(content)
        while view:
            if not self._left:
                self._stream.close()
                self.paths.append(self._folder / f"{PREFIX}{len(self.paths):02}")
                self._stream, self._left = self.paths[-1].open("wb"), self._size  # type: ignore[assignment]
            piece = view[: self._left]
            self._stream.write(piece)
            self._left -= len(piece)
            view = view[len(piece) :]
        return len(content)

    def close(self) -> None:
        self._stream.close()
        super().close()


def split(folder: Path, part_mb: int) -> list[Path]:
    """Returns the parts of `folder`, beside it in `<folder>-parts`, with their digests in SHA256SUMS.

    `cat pack.tar.xz.part-* | tar -xJ` makes the folder again.
    """
    target = folder.with_name(f"{folder.name}-parts")
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob(f"{PREFIX}*"):
        old.unlink()
    with Parts(target, part_mb * 10**6) as stream, tarfile.open(fileobj=stream, mode="w|xz") as archive:
        archive.add(folder, arcname=folder.name, filter=_without_plans)
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in stream.paths]
    (target / SUMS).write_text("".join(sums), encoding="utf-8")
    return stream.paths


def _without_plans(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leaves out what `gpu-test` built in the folder: a plan runs on no other machine."""
    return None if "/plans" in member.name else member
