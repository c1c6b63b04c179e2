"""What a manifest says, what it may say, and whether it still is what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts import MANIFEST, Manifest, Workspace, is_as_sealed, require_own, sealed
from pipeline.artifacts.manifest import enclosing
from pipeline.errors import ArtifactError

FILES = {"a.txt": {"sha256": "0" * 64, "bytes": 3, "stage": "export"}}
STAGES = {"export": {"inputs": {"code": "1"}, "files": ["a.txt"]}}


def test_a_seal_is_of_all_but_itself() -> None:
    document = sealed({"a": [1, 2], "b": {"c": None}})
    assert is_as_sealed(document) and is_as_sealed(dict(reversed(document.items())))
    assert not is_as_sealed({**document, "a": [2, 1]}) and not is_as_sealed({**document, "more": 1})
    assert sealed({"a": (1, 2)})["digest"] == sealed({"a": [1, 2]})["digest"], "as JSON reads it"


def write(folder: Path, **changes: Any) -> None:
    document = {"format": 1, "recipe": {}, "stages": STAGES, "files": FILES, **changes}
    (folder / MANIFEST).write_text(json.dumps(document))


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = Manifest(FILES, STAGES, {"family": "bert"})
    (tmp_path / MANIFEST).write_text(made.to_json())
    assert Manifest.read(tmp_path) == made
    assert made.to_json() == json.dumps(json.loads(made.to_json()), indent=1), "a line a value"
    assert json.loads(made.to_json())["format"] == 1


def test_one_of_before_they_had_a_digest_or_a_recipe_is_read(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps({"format": 1, "stages": STAGES, "files": FILES}))
    assert Manifest.read(tmp_path) == Manifest(FILES, STAGES, {})
    write(tmp_path, digest="0")
    with pytest.raises(ArtifactError, match="was changed after it was written: its digest is another"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "a/../b", "a\\b", "./a", "a//b", "a/", ".", ""])
def test_names_lead_nowhere_else(name: str, tmp_path: Path) -> None:
    write(tmp_path, files={name: FILES["a.txt"]})
    with pytest.raises(ArtifactError, match="is no name of a file in the folder"):
        Manifest.read(tmp_path)
    write(tmp_path, stages={"export": {"inputs": {}, "files": [name]}})
    with pytest.raises(ArtifactError, match=r"stages\.export\.files\.0: .* is no name of a file in the folder"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("name", ["a", "a/b.c", "..a", ".a"])
def test_other_names_are_fine(name: str, tmp_path: Path) -> None:
    write(tmp_path, files={name: FILES["a.txt"]})
    assert [*Manifest.read(tmp_path).files] == [name]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"files": {"a.txt": {"sha256": "0", "stage": "x"}}}, r"files\.a\.txt\.bytes: Field required"),
        ({"files": {"a.txt": {"stage": "x"}}}, r"files\.a\.txt\.sha256: Field required"),
        ({"stages": {"x": {"files": []}}}, r"stages\.x\.inputs: Field required"),
        ({"format": 2}, r"has format 2, this version reads 1"),
        ({"recipe": 3}, r"recipe: "),
    ],
)
def test_what_is_no_manifest_says_where(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    write(tmp_path, **changes)
    with pytest.raises(ArtifactError, match=said):
        Manifest.read(tmp_path)


def test_a_folder_within_an_artifact_folder_is_not_its_own(tmp_path: Path) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "a" / "b"
    inner.mkdir(parents=True)
    assert enclosing(inner) is None
    require_own(inner)
    write(outer, stages={})
    assert enclosing(inner) is None, "nothing ran there yet"
    (outer / MANIFEST).write_text("{}")
    assert enclosing(inner) is None, "something else's manifest.json"
    write(outer)
    assert enclosing(inner) == outer and enclosing(outer) is None
    with pytest.raises(ArtifactError, match=r"b lies inside the artifact folder .*outer; give that, or move it out"):
        require_own(inner)
    require_own(outer)


def test_a_workspace_reads_what_another_one_wrote(tmp_path: Path) -> None:
    with Workspace(tmp_path).staging("export", {"code": "1"}, {"seconds": 2.0, "recipe": {"family": "bert"}}) as area:
        (area / "a.txt").write_text("one")
    found = Manifest.read(tmp_path)
    assert found.recipe == {"family": "bert"}
    assert found.stages == {"export": {"seconds": 2.0, "inputs": {"code": "1"}, "files": ["a.txt"]}}
    with Workspace(tmp_path).staging("lower", {}, {}) as area:
        (area / "b.txt").write_text("two")
    assert Manifest.read(tmp_path).recipe == {"family": "bert"}, "a stage without one leaves it"
