"""The held-out samples as they are read back: whole ones, and every kind of damage as one clear error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.artifacts import Workspace
from pipeline.errors import ArtifactError
from pipeline.judge.evaluation import Reference, read_arrays

GOOD: dict[str, Any] = {"input/x": np.ones((3, 2)), "output/y": np.zeros((3, 4)), "label/class_names": np.array(["a"])}
DAMAGED: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("samples"),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: (np.savez(path, **GOOD), path.write_bytes(path.read_bytes()[:-300])),
    "a flipped byte": lambda path: (np.savez(path, **GOOD), path.write_bytes(flipped(path.read_bytes()))),
    "pickled objects": lambda path: np.savez(path, x=np.array([{}, [], ()], dtype=object)),
    "a single array": lambda path: np.save(path.open("wb"), np.ones(3)),
}


def flipped(content: bytes) -> bytes:
    """Returns the content with one byte of the first array changed, which its checksum does not allow."""
    at = content.index(np.ones(1).tobytes())
    return content[:at] + b"\x01" + content[at + 1 :]


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_arrays_are_refused_by_name(case: str, tmp_path: Path) -> None:
    path = tmp_path / "reference.npz"
    DAMAGED[case](path)
    with pytest.raises(ArtifactError, match=r"reference\.npz cannot be read as arrays \("):
        read_arrays(path)


def test_arrays_come_back_in_the_files_order(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **GOOD)
    found = read_arrays(tmp_path / "a.npz")
    assert [*found] == [*GOOD] and all((found[name] == GOOD[name]).all() for name in GOOD)


def read(folder: Path, arrays: dict[str, Any]) -> Reference:
    """Returns what the stages would read of these arrays."""
    workspace = Workspace(folder)
    with workspace.staging("export", {}, {}) as area:
        np.savez(area / "reference.npz", **arrays)
    return Reference.read(workspace)


def test_a_reference_has_as_many_outputs_as_inputs(tmp_path: Path) -> None:
    found = read(tmp_path / "good", GOOD)
    assert found.samples == 3 and [*found.inputs, *found.outputs, *found.labels] == ["x", "y", "class_names"]
    with pytest.raises(ArtifactError, match=r"unequal sample counts \(\{'x': 3, 'y': 2\}\)"):
        read(tmp_path / "fewer", {**GOOD, "output/y": np.zeros((2, 4))})
    with pytest.raises(ArtifactError, match="no inputs or no outputs"):
        read(tmp_path / "none", {"input/x": np.ones((3, 2))})


@pytest.mark.parametrize("key", ["x", "inputs/x", "input"])
def test_an_array_of_an_unknown_kind_is_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=f"not a reference of this format .'{key}'."):
        read(tmp_path / "odd", {**GOOD, key: np.ones(3)})
