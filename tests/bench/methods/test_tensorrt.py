"""TensorRT as a method of `bench`, on a stand-in: built from a folder's graphs, kept while they are the same, refused
where they are for another TensorRT.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import fake_tensorrt, gpu_folders
from helpers.command_line import python
from pipeline.artifacts import Workspace
from pipeline.backends._tensorrt import build as building
from pipeline.backends._tensorrt import cuda
from pipeline.bench import methods, speed
from pipeline.bench.methods import tensorrt
from pipeline.errors import ArtifactError, InputError
from pipeline.judge import parity
from pipeline.judge.evaluation import Reference, one_by_one
from pipeline.recipe import Recipe

Exported = Callable[[str], Recipe]
NAMES = list(tensorrt.METHODS)


@pytest.fixture
def workspace(exported: Exported, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Returns a copy of a tiny BERT's folder with graphs for TensorRT 8.6."""
    return Workspace(gpu_folders.lowered(tmp_path_factory, exported, tmp_path / "bert"))


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Returns the stand-in for TensorRT 8.6, in place."""
    return fake_tensorrt.install(monkeypatch, tmp_path, "8.6.0")


@pytest.mark.parametrize("name", NAMES)
def test_an_engine_is_close_to_float_and_says_its_precision(
    name: str, workspace: Workspace, tmp_path: Path, trt: Any
) -> None:
    method, reference = methods.get(name), Reference.read(workspace)
    engine: Any = method.make(workspace, tmp_path / "area", 1)
    assert f"tensorrt_{engine.precision}" == name
    found = one_by_one(engine, reference.inputs)
    least = min(parity.cosine(reference.outputs[n], found[n]) for n in reference.outputs)
    assert (0.9 < least < 0.999999) if name == "tensorrt_int8" else least > 0.999999


def test_a_plan_is_kept_while_it_is_of_the_same_files(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trt: Any
) -> None:
    made: list[str] = []
    original = building.build_plan

    def counted(graph: bytes, name: str, settings: Any) -> Any:
        made.append(name)
        return original(graph, name, settings)

    monkeypatch.setattr(building, "build_plan", counted)
    method, area = methods.get("tensorrt_fp16"), tmp_path / "area"
    for _ in range(2):
        method.build(workspace, area)
    assert [Path(name).name for name in made] == ["model.fp16.onnx"]
    assert json.loads((area / tensorrt.MADE).read_text())["seconds"] > 0
    (area / tensorrt.MADE).unlink()
    method.build(workspace, area)
    manifest = workspace.manifest
    manifest.recipe["shapes"]["batches"] = [1, 2]
    (workspace.folder / "manifest.json").write_text(manifest.to_json())
    method.build(workspace, area)
    assert len(made) == 3, "one that is half made, or whose profiles are others, is made anew"


def test_graphs_for_another_tensorrt_name_the_command(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    with pytest.raises(InputError, match=r"not for TensorRT 10\.13\.3.*`python -m pipeline lower bert .*target"):
        methods.get("tensorrt_int8").build(workspace, tmp_path / "area")


def test_a_graph_that_was_altered_is_refused(workspace: Workspace, tmp_path: Path, trt: Any) -> None:
    with (workspace.folder / "tensorrt/model.fp16.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArtifactError, match=r"tensorrt/model\.fp16\.onnx was altered"):
        methods.get("tensorrt_fp16").build(workspace, tmp_path / "area")
    with pytest.raises(InputError, match="is no artifact folder"):
        methods.get("tensorrt_fp16").build(Workspace(tmp_path / "nothing"), tmp_path / "area")


def test_bench_times_them_where_there_is_a_gpu(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, trt: Any) -> None:
    recipe = Recipe.load("bert", overrides={"folder": workspace.folder, "verification.runs": 5})
    table = speed.run(recipe, batch=4, wanted=NAMES)
    assert [row["method"] for row in table["methods"]] == [methods.BASE, *NAMES]
    assert all(row["skipped"] is None and row["speedup"]["median"] > 0 for row in table["methods"])
    assert set(NAMES) <= set(methods.usual())
    monkeypatch.setattr(cuda, "library", lambda: None)
    assert not set(NAMES) & set(methods.usual()) and "ours_openvino" in methods.usual()
    assert "NVIDIA GPU" in str(methods.get("tensorrt_int8").unavailable_reason())


BENCH = """
import sys
from pathlib import Path
import pytest
sys.path.insert(0, "tests")
from helpers import fake_tensorrt
fake_tensorrt.install(pytest.MonkeyPatch(), Path({scratch!r}), "8.6.0")
from pipeline.cli import main
methods = "tensorrt_fp16,tensorrt_int8"
sys.argv[1:] = ["bench", "bert", "--output", {folder!r}, "--methods", methods, "--set", "verification.runs=5", "--json"]
main.main()
"""


def test_bench_runs_on_a_copied_folder_without_torch(workspace: Workspace, tmp_path: Path) -> None:
    absent = ("torch", "transformers", "onnx_ir", "onnxscript", "pytorch_quantization", "openvino")
    done = python(BENCH.format(scratch=str(tmp_path), folder=str(workspace.folder)), absent=absent)
    assert done.returncode == 0, done.stderr[-2000:]
    found = {row["method"]: row for row in json.loads(done.stdout)["methods"]}
    assert list(found) == [methods.BASE, "tensorrt_fp16", "tensorrt_int8"]
    half, int8 = (found[name]["accuracy"]["cosine"] for name in ("tensorrt_fp16", "tensorrt_int8"))
    assert half > 0.999999 > int8 > 0.9
