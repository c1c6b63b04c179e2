"""The held-out samples as they are read back: whole ones, and every kind of damage as one clear error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.artifacts import Workspace
from pipeline.errors import ArtifactError
from pipeline.judge import evaluation
from pipeline.judge.evaluation import Reference, first, in_batches, one_by_one, read_arrays, read_json
from pipeline.recipe import Recipe

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


def test_a_reference_of_unequal_inputs_or_of_no_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"unequal sample counts \(\{'x': 3, 'z': 2, 'y': 3\}\)"):
        read(tmp_path / "unequal", {**GOOD, "input/z": np.ones((2, 2))})
    with pytest.raises(ArtifactError, match=r"unequal sample counts \(\{'x': 0, 'y': 0\}\)"):
        read(tmp_path / "empty", {"input/x": np.ones((0, 2)), "output/y": np.ones((0, 2))})
    with pytest.raises(ArtifactError, match="no inputs or no outputs"):
        read(tmp_path / "outputs", {"output/y": np.ones((3, 2))})


def test_the_digest_is_of_inputs_and_labels_that_the_data_gave() -> None:
    x, label, score = np.arange(4), np.array([1, 0, 1, 1]), np.linspace(0, 1, 4)

    def digest(x: Any = x, label: Any = label, score: Any = score, name: str = "x", outputs: Any = x) -> str:
        return Reference({name: x}, {"y": outputs}, {"label": label, "score": score}).digest()

    assert digest() == digest(score=score + 1) == digest(outputs=x + 1), "what comes from the float model is left out"
    others = [digest(x=x + 1), digest(label=1 - label), digest(name="z"), digest(x=x.astype(np.int32)),
              digest(x=x.reshape(2, 2))]  # fmt: skip
    assert len({digest(), *others}) == 6
    text = Reference({"x": x}, {}, {"label": np.array(["a", "b"])}).digest()
    assert text != Reference({"x": x}, {}, {"label": np.array(["a", "c"])}).digest()
    both = Reference({"x": x, "z": label}, {}, {}).digest()
    assert both == Reference({"z": label, "x": x}, {}, {}).digest(), "the order of arrays does not matter"


def test_samples_are_taken_in_order_and_over_again() -> None:
    names = {"class_names": np.array(["a", "b"]), "pooling": np.array(["cls"])}
    whole = Reference({"x": np.arange(3)}, {"y": 10 * np.arange(3)}, {"label": 5 + np.arange(3), **names})
    taken = whole.take([2, 0])
    assert [x.tolist() for x in (taken.inputs["x"], taken.outputs["y"], taken.labels["label"])] == [
        [2, 0], [20, 0], [7, 5],
    ]  # fmt: skip
    assert all(taken.labels[name] is names[name] for name in names), "what belongs to the model is not a sample's"
    assert whole.first(2).inputs["x"].tolist() == [0, 1]
    assert whole.first(5).inputs["x"].tolist() == [0, 1, 2, 0, 1] and whole.samples == 3
    assert first({"x": np.arange(3)}, 2)["x"].tolist() == [0, 1]


@pytest.mark.parametrize(("size", "seen"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (8, [5])])
def test_batches_are_put_together_again(size: int, seen: list[int]) -> None:
    inputs, sizes = {"x": np.arange(5.0), "z": np.ones(5)}, []

    def model(feeds: dict[str, Any]) -> dict[str, Any]:
        sizes.append(len(feeds["x"]))
        return {"y": feeds["x"] + feeds["z"], "n": feeds["x"]}

    found = in_batches(model, inputs, size, "running")
    assert {name: x.tolist() for name, x in found.items()} == {"y": [1, 2, 3, 4, 5], "n": [0, 1, 2, 3, 4]}
    assert sizes == seen
    assert one_by_one(model, inputs)["y"].tolist() == [1, 2, 3, 4, 5] and sizes[-5:] == [1] * 5


@pytest.mark.parametrize(("size", "batches"), [(1, 5), (2, 3), (5, 1)])
def test_progress_is_told_in_batches(size: int, batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(evaluation, "track", lambda steps, label, total: told.append((label, total)) or steps)
    in_batches(lambda feeds: feeds, {"x": np.arange(5.0)}, size, "judging")
    assert told == [("judging", batches)]


def test_json_that_is_none_names_the_backend_that_made_it(tmp_path: Path) -> None:
    recipe = Recipe.load("bert", overrides={"folder": tmp_path})
    workspace = Workspace(tmp_path)
    with workspace.staging("lower/onnxruntime", {}, {"recipe": recipe.recorded()}) as area:
        (area / "a.json").write_text("{")
    with pytest.raises(ArtifactError, match="--backend onnxruntime"):
        read_json(workspace, "a.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", r"a\.json is not JSON \(.*\); run"), ("[1]", r"a\.json holds list where an object is")],
)
def test_json_that_is_no_object_is_refused_by_name(content: str, message: str, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with workspace.staging("export", {}, {}) as area:
        (area / "a.json").write_text(content)
        (area / "b.json").write_text('{"b": 1}')
    assert read_json(workspace, "b.json") == {"b": 1}
    with pytest.raises(ArtifactError, match=message):
        read_json(workspace, "a.json")
