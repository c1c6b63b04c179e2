"""The folders of gpu-test: made where torch is, asked for where it is not, and told where there is no GPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import fake_tensorrt, gpu_folders
from pipeline.artifacts import Workspace
from pipeline.bench import published
from pipeline.bench.gpu_test import subjects
from pipeline.bench.gpu_test.subjects import Subject
from pipeline.errors import BackendUnavailable, InputError
from pipeline.recipe import Recipe

Exported = Callable[[str], Recipe]


def test_folders_are_made_up_to_the_graphs_and_then_left_alone(
    checkpoints: dict[str, Path], data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a published shape, whose accuracy means nothing, and one of a trained checkpoint."""
    monkeypatch.setattr(published, "settings", lambda name, root: {"checkpoint": str(checkpoints["bert"])})
    monkeypatch.setattr(subjects, "SHAPES", {"gpu-drawn": "bert-base", "gpu-bert": None})
    few = {"shapes.sequence_length": 32, "shapes.batches": (1, 2)}
    monkeypatch.setattr(subjects, "SETTINGS", few)
    asked = {
        "data": str(data["bert"]), "checkpoint": str(checkpoints["bert"]), "calibration.samples": 4,
        "verification.samples": 4, "verification.threads": 1, "tensorrt.target": "8.6",
    }  # fmt: skip
    said: list[str] = []
    folders = subjects.usual(asked, said.append, tmp_path)
    assert folders == [tmp_path / "gpu-drawn", tmp_path / "gpu-bert"]
    fake_tensorrt.install(monkeypatch, tmp_path, "8.6.0")
    about = [Subject(folder).described() for folder in folders]
    assert [(row["name"], row["judged"]) for row in about] == [("gpu-drawn", False), ("gpu-bert", True)]
    assert all(row["inputs"]["input_ids"] == [1, 32] and row["batches"] == [1, 2] for row in about)
    for folder in folders:
        files = set(Workspace(folder).manifest.files)
        assert set(subjects.MEASURED) <= files and "tensorrt/model.plan" not in files
    said.clear()
    assert subjects.usual({}, said.append, tmp_path) == folders and said == [], "they are taken as they are"
    subjects.usual(asked, said.append, tmp_path)
    assert len([line for line in said if line.endswith(": up to date")]) == 8


def test_without_torch_the_folders_must_be_here(
    exported: Exported, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else found(name))
    with pytest.raises(InputError, match=r"gpu-bert-base, .*gpu-segformer cannot be made here, without torch"):
        subjects.usual({}, print, tmp_path)
    monkeypatch.setattr(subjects, "SHAPES", {"gpu-bert": None})
    gpu_folders.lowered(tmp_path_factory, exported, tmp_path / "gpu-bert")
    assert subjects.usual({}, print, tmp_path) == [tmp_path / "gpu-bert"]
    with pytest.raises(InputError, match="without torch"):
        subjects.usual({"tensorrt.target": "10"}, print, tmp_path)


def test_the_digest_is_of_what_the_figures_depend_on(
    exported: Exported, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, "8.6.0")
    folder = gpu_folders.lowered(tmp_path_factory, exported, tmp_path / "tiny")

    def digest_without(*names: str) -> Any:
        manifest = Workspace(folder).manifest
        before = manifest.to_json()
        for name in names:
            manifest.files[name]["sha256"] = "0" * 64
        (folder / "manifest.json").write_text(manifest.to_json())
        found = subjects.digest(Workspace(folder))
        (folder / "manifest.json").write_text(before)
        return found

    standard = digest_without()
    assert digest_without("calibration.json", "tensorrt/placement.json") == standard
    assert len({standard, *(digest_without(name) for name in subjects.MEASURED)}) == 1 + len(subjects.MEASURED)


def test_a_folder_goes_to_where_the_gpu_is(tmp_path: Path) -> None:
    told = str(subjects.hand_over([Path("exports/gpu-bert")], BackendUnavailable("no GPU is here")))
    assert told.startswith("no GPU is here\nCopy exports/gpu-bert to a machine")
    assert told.endswith("python -m pipeline gpu-test exports/gpu-bert")
