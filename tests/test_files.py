"""Digests that are computed once: as often as a file changes, and never of bytes that are there no more."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import files
from pipeline.files import Digests, identity, sha256


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Returns the list of the files that are read from now on; all count as written long ago."""
    found: list[Path] = []
    monkeypatch.setattr(files, "SETTLED", -1.0)
    monkeypatch.setattr(files, "sha256", lambda path: (found.append(path), sha256(path))[1])
    return found


def test_a_file_that_stays_as_it_is_is_read_once(tmp_path: Path, read: list[Path]) -> None:
    path, digests = tmp_path / "a", Digests()
    path.write_bytes(b"one")
    assert digests.sha256(path) == digests.sha256(path) == sha256(path)
    assert read == [path]
    assert Digests().sha256(path) == sha256(path) and read == [path] * 2, "nobody else's digests are taken"


def in_place(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.write(b"two")


def with_the_old_times(path: Path) -> None:
    before = path.stat()
    in_place(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path: Path) -> None:
    before, other = path.stat(), path.with_name("b")
    other.write_bytes(b"two")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [in_place, with_the_old_times, replaced])
def test_a_change_that_keeps_the_size_is_seen(
    change: Callable[[Path], None], tmp_path: Path, read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, digests = tmp_path / "a", Digests()
    path.write_bytes(b"one")
    first = identity(path)
    digests.sha256(path)
    while identity(path) == first:  # until the file system's clock ticks
        change(path)
    assert digests.sha256(path) == sha256(path) and read == [path] * 2


def test_a_file_that_was_just_written_is_read_every_time(tmp_path: Path) -> None:
    """Its next change might bear the same time."""
    path, digests = tmp_path / "a", Digests()
    for content in (b"one", b"two", b"six"):
        path.write_bytes(content)
        assert identity(path) is None and digests.sha256(path) == sha256(path)


def test_a_file_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, digests = tmp_path / "a", Digests()
    path.write_bytes(b"one")

    def slowly(at: Path) -> str:
        found = sha256(at)
        path.write_bytes(b"longer")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(files, "sha256", slowly)
        digests.sha256(path)
    assert digests.sha256(path) == sha256(path)


def test_a_file_that_is_gone_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        Digests().sha256(tmp_path / "gone")
