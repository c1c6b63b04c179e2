"""The seconds of a whole run beside NNCF's: real runs in folders of their own, faults told, the table from the file."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Cli
from helpers.runs import snapshot
from pipeline.artifacts import MANIFEST, Workspace
from pipeline.bench import build_floor, build_time, published, tables
from pipeline.bench.build_time import PEER
from pipeline.bench.tables import build as text
from pipeline.errors import InputError, PipelineError
from pipeline.files import sha256
from pipeline.measure.process import ProcessFault
from pipeline.recipe import Recipe

NNCF = pytest.mark.skipif(PEER.unavailable_reason() is not None, reason="needs the bench extra")


@pytest.fixture
def recipe(calibrated: dict[str, Recipe]) -> Recipe:
    """Returns a tiny BERT's recipe, verified as shortly as can be."""
    made = calibrated["bert"]
    quick = made.verification.model_copy(update={"warmup": 1, "runs": 5, "samples": 4})
    return made.model_copy(update={"verification": quick})


def test_a_whole_run_is_timed_by_stage_and_the_recipes_folder_stays(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(PEER), "unavailable_reason", lambda _: "nncf is not installed: pip install it")
    before, said = snapshot(recipe.folder), []
    document = build_time.run(
        recipe, rounds=1, record=tmp_path / "build.json", command="make bench-build", announce=said.append
    )
    assert snapshot(recipe.folder) == before and said == [
        "bench-build: round 1 of 1, make engine",
        "bench-build: round 1 of 1, the libraries' part alone",
    ]
    assert json.loads((tmp_path / "build.json").read_text(encoding="utf-8")) == document
    ours = document["ours"]
    assert [*ours["stages"]] == ["quantize", "calibrate", "export", "lower", "engine", "verify"]
    assert all(seconds > 0 for (seconds,) in ours["stages"].values()), "an empty folder: no stage is skipped"
    assert ours["seconds"][0] > sum(seconds for (seconds,) in ours["stages"].values())
    assert ours["same_work"] == [sum(ours["stages"][name][0] for name in build_time.SAME_WORK)]
    assert document["peers"] == [] and document["skipped"] == "nncf is not installed: pip install it"
    floor = document["floor"]
    shown = [re.sub(r"\d+", "n", row["work"]) for row in floor]
    assert [work.split(" ")[0] for work in shown] == ["import", "load", "n", "torch.onnx.export", "n", "n"]
    assert all(row["seconds"][0] > 0 and row["cpu_seconds"][0] > 0 for row in floor)
    assert sum(row["seconds"][0] for row in floor) < ours["seconds"][0], "a part of the whole"


def test_a_fault_of_the_libraries_part_is_told(recipe: Recipe, tmp_path: Path) -> None:
    lost = recipe.model_copy(update={"folder": tmp_path / "nothing"})
    with pytest.raises(PipelineError, match=r"nothing.* has no engine"):
        build_floor.measure(lost)


def test_a_run_that_fails_is_no_time(recipe: Recipe, tmp_path: Path) -> None:
    lost = recipe.model_copy(update={"data": str(tmp_path / "none.json")})
    with pytest.raises(PipelineError, match=r"(?s)ended with code 2: .*there is no such file"):
        build_time.build(lost, tmp_path / "bert")


@pytest.fixture
def folder(exported: Callable[[str], Recipe], tmp_path: Path) -> Path:
    """Returns what the peer starts from: a folder with the float graph."""
    return Path(shutil.copytree(exported("bert").folder, tmp_path / "bert"))


@NNCF
def test_the_peer_quantizes_and_answers_in_a_process_of_its_own(folder: Path, tmp_path: Path) -> None:
    before = snapshot(folder)
    assert build_time.peer(folder, tmp_path / "nncf", 2) > 0
    assert snapshot(folder) == before and not (tmp_path / "nncf").exists()
    with pytest.raises(InputError, match=r"999 calibration samples are needed, \d+ are there"):
        build_time.peer(folder, tmp_path / "nncf", 999)


@NNCF
def test_a_fault_of_the_peer_is_told(folder: Path, tmp_path: Path) -> None:
    path, manifest = folder / "original.onnx", Workspace(folder).manifest
    path.write_bytes(b"no graph")
    manifest.files[path.name].update(sha256=sha256(path), bytes=path.stat().st_size)
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    with pytest.raises(ProcessFault, match="NNCF's process failed: Unable to read the model"):
        build_time.peer(folder, tmp_path / "nncf", 2)


def document(**changes: Any) -> dict[str, Any]:
    return {
        "command": "make bench-build MODEL=bert ARGS='--shape bert-base'",
        "rounds": 2,
        "samples": 64,
        "ours": {
            "seconds": [50.0, 52.0],
            "stages": {"calibrate": [10.0, 11.0], "export": [20.0, 21.0]},
            "same_work": [15.0, 16.0],
        },
        "floor": [
            {"work": "import", "seconds": [4.0, 6.0], "cpu_seconds": [5.0, 5.5]},
            {"work": "export", "seconds": [10.0, 12.0], "cpu_seconds": [11.0, 12.0]},
        ],
        "peers": [{"samples": 8, "seconds": [28.0, 30.0]}],
        "skipped": None,
        "environment": {
            "date": "2026-01-02T03:04:05+00:00",
            "cpu": "a processor",
            "processor": "avx2",
            "threads": 2,
            "versions": {"nncf": "3.4.0", "openvino": "2026.4.1-build"},
        },
        **changes,
    }


def test_the_readme_block_has_a_row_a_stage_and_the_peers(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(json.dumps(document()), encoding="utf-8")
    readme = tmp_path / "README.md"
    readme.write_text("<!-- build b.json -->\nbefore\n<!-- /build -->\n", encoding="utf-8")
    assert tables.refresh(readme) == ["b.json"]
    found = readme.read_text(encoding="utf-8")
    assert "before" not in found
    assert "| make engine, from the checkpoint to the verdict | 64 | 51.0 | 50.0–52.0 |" in found
    assert "| its stage export |  | 20.5 | 20.0–21.0 |" in found
    assert "| NNCF int8, from the float ONNX to the first answer | 8 | 29.0 | 28.0–30.0 |" in found
    assert "| export | 11.0 | 11.5 |\n| together | 16.0 | 16.8 |\n\nWithout quantizers, " in found
    assert "takes 16.0 s one after the other, and at least 8.4 s on 2 cores" in found and "Ours takes 51.0 s" in found
    rows = text.runs(document(peers=[], skipped="nncf is not installed")).markdown().splitlines()
    assert rows[-1].split(" | ")[1] == "not run: nncf is not installed"
    assert len({row.count("|") for row in rows}) == 1


def test_the_peer_gets_as_many_samples_as_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "write_checkpoint", lambda name, folder: folder)
    recipe = build_time.recipe_of("bert", "bert-base", tmp_path, {})
    assert recipe.calibration.samples == max(build_time.PEER_SAMPLES) == 64


def test_a_shape_of_another_family_is_an_error(cli: Cli, tmp_path: Path) -> None:
    answer = cli("bench-build", "bert", "--shape", "segformer-b0", "--output", tmp_path / "x")
    assert answer.code == 2 and "the shape segformer-b0 is a segformer, not a bert." in answer.err
    assert list(tmp_path.iterdir()) == []
