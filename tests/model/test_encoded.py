"""Encoded samples in files: the same arrays as all encoded at once, a few in memory at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.runs import recipe_for
from pipeline.model import loading
from pipeline.model.encoded import FEW, Encoded


@pytest.mark.parametrize("name", ["bert", "classifier", "encoder", "segformer"])
def test_files_hold_what_encoding_at_once_gives(
    name: str, checkpoints: dict[str, Path], data: dict[str, Path], tmp_path: Path
) -> None:
    recipe = recipe_for(name, tmp_path, checkpoints[name], data[name], calibration__samples=FEW + 3)
    source = loading.open_source(recipe)
    raw = source.task.samples(recipe, source.config, "calibration", FEW + 3, folder=source.folder)
    expected = source.task.encode(source.folder, recipe, raw)
    found = Encoded.write(tmp_path, source.task, recipe, source.folder, raw)
    assert len(list(tmp_path.glob("*.npz"))) == 2
    for part, whole in zip(found.read(), expected, strict=True):
        assert part.keys() == whole.keys()
        for key, value in whole.items():
            assert part[key].dtype == value.dtype
            np.testing.assert_array_equal(part[key], value)
    for key, value in found.first().items():
        np.testing.assert_array_equal(value, expected[0][key][:1])


class Windows:
    """A task whose every sample is two rows; it tells how many samples it is given at a time."""

    def __init__(self) -> None:
        self.given: list[int] = []

    def encode(self, folder: Path, recipe: Any, samples: list[int]) -> tuple[dict[str, Any], dict[str, Any]]:
        self.given.append(len(samples))
        rows = np.repeat(samples, 2)
        return {"x": rows[:, None]}, {"text": rows.astype(str), "class_names": np.array(["a", "b", "c"])}


def test_a_sample_may_be_several_rows(tmp_path: Path) -> None:
    task, count = Windows(), 2 * FEW + 1
    found = Encoded.write(tmp_path, task, None, tmp_path, range(count))  # type: ignore[arg-type]
    assert task.given == [FEW, FEW, 1]
    inputs, labels = found.read()
    assert inputs["x"][:, 0].tolist() == np.repeat(range(count), 2).tolist()
    assert labels["text"].tolist() == [str(i) for i in np.repeat(range(count), 2)]
    assert labels["class_names"].tolist() == ["a", "b", "c"], "the model's, not a sample's"
