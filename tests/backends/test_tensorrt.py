"""The TensorRT backend on a stand-in for the module and the GPU: building, refusing, loading, running."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from helpers import fake_tensorrt
from helpers import qdq_models as models
from helpers.fake_cuda import OUT_OF_MEMORY, FakeDriver
from pipeline import backends, stages
from pipeline.backends import tensorrt
from pipeline.backends._tensorrt import api, cuda, plan
from pipeline.errors import ArtifactError, BackendUnavailable, EngineRefused, InputError
from pipeline.judge.reference import exact_session
from pipeline.recipe import Recipe

TARGETS = {"8.6.0": "8.6", "10.13.3": "10", "11.4.0": "10"}
every = pytest.mark.parametrize("version", fake_tensorrt.VERSIONS)


def recipe(folder: Path, **more: Any) -> Recipe:
    return models.recipe(folder, "tensorrt", **{"shapes.batches": (1, 3), "shapes.sequence_length": 12, **more})


def built(folder: Path, graph: str = "attention", precision: str = "int8", **more: Any) -> Path:
    """Returns the folder of a plan; the float graph lies beside it as the export stage leaves it."""
    qdq = models.MAKERS[graph](folder / "tensorrt/model.qdq.onnx")
    models.MAKERS[graph](folder / "model.onnx", qdq=False)
    tensorrt.build(qdq, folder / "tensorrt", recipe(folder, **more), precision)
    return folder / "tensorrt"


def token_graph(path: Path) -> Path:
    """Writes a graph whose input is int64: ids [n, s] -> vectors [n, s, 4]."""
    helper = onnx.helper
    nodes = [helper.make_node("Gather", ["table", "ids"], ["vectors"], name="embedding/Gather")]
    table = onnx.numpy_helper.from_array(np.arange(40, dtype=np.float32).reshape(10, 4), "table")
    graph = helper.make_graph(
        nodes,
        "tokens",
        [helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["n", "s"])],
        [helper.make_tensor_value_info("vectors", onnx.TensorProto.FLOAT, ["n", "s", 4])],
        [table],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> None:
    """Warnings are kept whatever level another package gave the root logger."""
    caplog.set_level(logging.WARNING, logger="pipeline")


# --- where it can run ---


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "library", lambda: None)
    assert "NVIDIA GPU" in str(tensorrt.unavailable_reason())
    for call in (lambda: tensorrt.load(Path("nowhere"), None), tensorrt.version, tensorrt.maker):
        with pytest.raises(BackendUnavailable, match="BACKEND=openvino"):
            call()


def test_a_driver_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "library", lambda: FakeDriver(gpus=0))
    assert "NVIDIA GPU" in str(tensorrt.unavailable_reason())


@pytest.mark.parametrize(("python", "command"), [((3, 10), "pip install tensorrt==8.6.0"), ((3, 11), "tensorrt-cu12")])
def test_without_tensorrt(python: tuple[int, int], command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "library", FakeDriver)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(sys, "version_info", (*python, 0, "final", 0))
    assert f"'tensorrt' is not installed: {'pip install'}" in str(tensorrt.unavailable_reason())
    assert command in str(tensorrt.unavailable_reason())


def test_without_polygraphy_or_the_cuda_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, "8.6.0")
    with monkeypatch.context() as absent:
        absent.setitem(sys.modules, "polygraphy", None)
        assert "'polygraphy' is not installed: pip install polygraphy" in str(tensorrt.unavailable_reason())
    monkeypatch.setattr("polygraphy.cuda.cuda.G_CUDA", None)
    monkeypatch.setattr("polygraphy.cuda.cuda._find_cuda_lib_dirs", list)
    monkeypatch.setattr("ctypes.CDLL", FakeDriver.missing)
    assert "pip install nvidia-cuda-runtime-cu12" in str(tensorrt.unavailable_reason())


def test_an_old_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, "8.6.0").__version__ = "8.5.3.1"
    assert "8.5.3.1 is older than 8.6" in str(tensorrt.unavailable_reason())


@every
def test_with_everything(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, version, FakeDriver("NVIDIA A10", (8, 6)))
    assert tensorrt.unavailable_reason() is None
    assert tensorrt.version() == {"tensorrt": version, "gpu": "NVIDIA A10", "compute capability": "8.6"}
    assert tensorrt.target(recipe(tmp_path)) == TARGETS[version]


@pytest.mark.parametrize("asked", ["8.6", "10"])
def test_the_target_of_the_recipe_wins(asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    assert tensorrt.target(recipe(tmp_path, **{"tensorrt.target": asked})) == asked
    assert tensorrt.dialect(recipe(tmp_path, **{"tensorrt.target": asked})) == tensorrt.DIALECTS[asked]


def test_the_target_without_tensorrt_is_10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(api, "DISTRIBUTIONS", ())
    assert tensorrt.target(recipe(tmp_path)) == "10"


# --- the engine ---


@every
@pytest.mark.parametrize("graph", ["linear", "attention", "convolution"])
def test_the_engine_computes_the_graph(
    version: str, graph: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, version)
    folder = built(tmp_path, graph)
    engine, exact = tensorrt.load(folder, None), exact_session(folder / "model.qdq.onnx", 1)
    assert (engine.input_names, engine.output_names) == (exact.input_names, exact.output_names)
    for batch in (3, 1, 2, 3, 1):  # from one profile to the other and back
        feeds = models.feeds(folder / "model.qdq.onnx", batch, seed=batch)
        for name, expected in exact(feeds).items():
            np.testing.assert_allclose(engine(feeds)[name], expected, atol=1e-6)


@every
def test_results_outlive_the_next_call_and_nothing_is_printed(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, version)
    folder = built(tmp_path, "linear")
    engine = tensorrt.load(folder, None)
    first = engine(models.feeds(folder / "model.qdq.onnx", 1, seed=1))["logits"]
    kept = first.copy()
    engine(models.feeds(folder / "model.qdq.onnx", 1, seed=2))
    np.testing.assert_array_equal(first, kept)
    assert capfd.readouterr().out == ""


@every
def test_token_ids_are_what_the_engine_takes(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """int32 before TensorRT 9, int64 from then on."""
    fake_tensorrt.install(monkeypatch, tmp_path, version)
    graph = token_graph(tmp_path / "tensorrt/model.qdq.onnx")
    tensorrt.build(graph, graph.parent, recipe(tmp_path, **{"tensorrt.precision": "int8"}))
    engine: Any = tensorrt.load(graph.parent, None)
    ids = np.arange(12, dtype=np.int64).reshape(1, 12) % 10
    assert engine._types["ids"] == (np.int32 if version == "8.6.0" else np.int64)
    np.testing.assert_array_equal(engine({"ids": ids})["vectors"], np.arange(40.0).reshape(10, 4)[ids])


def test_wrong_inputs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    engine = tensorrt.load(built(tmp_path, "linear"), None)
    with pytest.raises(InputError, match="inputs are x; missing: x; unknown: y"):
        engine({"y": np.zeros((1, models.WIDTH), np.float32)})
    with pytest.raises(InputError, match=r"x \[4, 32\](.|\n)*profile 0: x 1x32 to 1x32\n  profile 1: x 2x32 to 3x32"):
        engine({"x": np.zeros((4, models.WIDTH), np.float32)})
    with pytest.raises(InputError, match="profile 1"):
        engine.prepare({"x": (9, models.WIDTH)})


def test_prepare_makes_what_the_next_call_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    engine = tensorrt.load(built(tmp_path, "linear"), None)
    engine.prepare({"x": (3, models.WIDTH)})
    trt.driver.calls.clear()
    engine({"x": np.zeros((3, models.WIDTH), np.float32)})
    assert "cudaMalloc" not in trt.driver.calls


def test_memory_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    engine = tensorrt.load(built(tmp_path, "linear"), None)
    engine({"x": np.zeros((1, models.WIDTH), np.float32)})
    assert trt.driver.memory and trt.driver.streams == 1
    del engine
    assert not trt.driver.memory and trt.driver.streams == 0


def test_a_gpu_without_memory_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    engine = tensorrt.load(built(tmp_path, "linear"), None)
    trt.driver.fail["cudaMalloc"] = OUT_OF_MEMORY
    with pytest.raises(BackendUnavailable, match=r"allocating .* MiB: out of memory"):
        engine({"x": np.zeros((1, models.WIDTH), np.float32)})


def test_a_run_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    engine = tensorrt.load(built(tmp_path, "linear"), None)
    trt.state.run_fault = "Cuda Runtime (misaligned address)"
    with pytest.raises(EngineRefused, match="misaligned address"):
        engine({"x": np.zeros((1, models.WIDTH), np.float32)})


@every
def test_the_precision_report_is_the_engines(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, version)
    folder = built(tmp_path, "convolution")
    feeds = models.feeds(folder / "model.qdq.onnx", 1)
    engine = tensorrt.load(folder, None)
    before = engine(feeds)
    report = engine.precision_report(feeds)
    assert (report["int8_ops"], report["float_ops"]) == (2, 1)  # the depthwise convolution has no Q/DQ
    assert report["flops"] == 2 * 256 * (16 * 8 * 9 + 16 * 9 + 16 * 16)
    assert report["int8_flop_share"] == pytest.approx(1 - 2 * 256 * 16 * 9 / report["flops"])
    assert all(layer["ms"] == 0.25 for layer in report["layers"])
    np.testing.assert_array_equal(engine(feeds)["map"], before["map"])
    assert engine.precision_report(models.feeds(folder / "model.qdq.onnx", 3))["flops"] == 3 * report["flops"]


def test_what_a_profiler_saw_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A context with a profiler is slow: the one that is timed later must not be it."""
    fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    folder = built(tmp_path, "linear")
    engine: Any = tensorrt.load(folder, None)
    feeds = models.feeds(folder / "model.qdq.onnx", 1)
    engine.precision_report(feeds)
    engine(feeds)
    assert [run._context.profiler for run in engine._runs.values()] == [None]


def test_without_onnx_the_share_comes_from_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    qdq = models.linear(tmp_path / "tensorrt/model.qdq.onnx")
    feeds = models.feeds(qdq, 1)
    monkeypatch.setitem(sys.modules, "onnx", None)
    tensorrt.build(qdq, qdq.parent, recipe(tmp_path, **{"tensorrt.precision": "int8"}))
    assert plan.read(qdq.parent).flops == {}
    assert tensorrt.load(qdq.parent, None).precision_report(feeds)["int8_ops"] == 2


# --- how it is built ---


@every
def test_types_come_from_flags_or_from_the_graph(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake_tensorrt.install(monkeypatch, tmp_path, version)
    built(tmp_path, "linear")
    flags = trt.NetworkDefinitionCreationFlag
    names = {name for name, flag in flags.__members__.items() if trt.state.last_flags & 1 << int(flag)}
    wanted = {
        "8.6.0": ({"EXPLICIT_BATCH"}, {"INT8", "FP16", "TF32"}),
        "10.13.3": ({"STRONGLY_TYPED"}, {"TF32"}),
        "11.4.0": ({"STRONGLY_TYPED"}, {"TF32"}),
    }
    assert (names, {flag.name for flag in trt.state.last_config._flags}) == wanted[version]


@pytest.mark.parametrize(
    ("version", "precision", "flags"),
    [("8.6.0", "fp16", {"FP16", "TF32"}), ("8.6.0", "fp32", set()), ("11.4.0", "fp32", set())],
)
def test_float_engines_are_built_from_the_float_graph(
    version: str, precision: str, flags: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fp32 without TF32, which has 10 bits of mantissa."""
    trt = fake_tensorrt.install(monkeypatch, tmp_path, version)
    monkeypatch.setattr(tensorrt, "DIALECTS", {"8.6": (), "10": ()})
    folder = built(tmp_path, "linear", precision)
    assert {flag.name for flag in trt.state.last_config._flags} == flags
    assert plan.read(folder).precision == precision
    feeds = models.feeds(tmp_path / "model.onnx", 1)
    expected = exact_session(tmp_path / "model.onnx", 1)(feeds)["logits"]
    np.testing.assert_allclose(tensorrt.load(folder, None)(feeds)["logits"], expected, atol=1e-6)
    assert tensorrt.load(folder, None).precision_report(feeds)["int8_ops"] == 0


def test_a_written_float_graph_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a machine without onnx-ir builds it too."""
    fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    models.linear(tmp_path / "tensorrt/model.fp16.onnx", qdq=False)
    monkeypatch.setitem(sys.modules, "onnx_ir", None)
    built(tmp_path, "linear", "fp16")
    (tmp_path / "tensorrt/model.fp16.onnx").unlink()
    with pytest.raises(InputError, match=r"needs .*model.fp16.onnx, or .*model.onnx and onnx-ir.*onnx-ir"):
        built(tmp_path, "linear", "fp16")


@pytest.mark.parametrize(
    ("version", "target", "said"),
    [("8.6.0", "10", "strongly typed networks, which TensorRT 8.6.0"), ("11.4.0", "8.6", "typed by builder flags")],
)
def test_a_target_of_another_version_is_refused(
    version: str, target: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, version)
    with pytest.raises(InputError, match=said):
        built(tmp_path, "linear", **{"tensorrt.target": target})


def test_the_recipe_is_the_builders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    built(tmp_path, "linear", **{"tensorrt.workspace_mib": 64, "tensorrt.optimization_level": 5})
    config = trt.state.last_config
    assert config._pools == {trt.MemoryPoolType.WORKSPACE: 64 << 20}
    assert (config.builder_optimization_level, config.profiling_verbosity.name) == (5, "DETAILED")
    note = json.loads((tmp_path / "tensorrt/plan.json").read_text())
    assert note["settings"] == {"workspace_mib": 64, "optimization_level": 5, "tactic_sources": []}
    assert note["profiles"] == [{"x": [[1, 32]] * 3}, {"x": [[2, 32], [3, 32], [3, 32]]}]


def test_one_batch_size_is_a_network_without_open_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake_tensorrt.install(monkeypatch, tmp_path, "8.6.0")
    folder = built(tmp_path, "attention", **{"shapes.batches": (1,)})
    assert trt.state.last_config._profiles == []
    assert tensorrt.load(folder, None)(models.feeds(folder / "model.qdq.onnx", 1))["scores"].shape == (1, 12, 12)
    with pytest.raises(InputError, match="1x12x32 to 1x12x32"):
        tensorrt.load(folder, None)(models.feeds(folder / "model.qdq.onnx", 2))


def test_what_is_imported_when(tmp_path: Path) -> None:
    """The files themselves need none of the heavy packages, nor Polygraphy."""
    files = sorted(p.stem for p in Path(backends.__file__).parent.glob("*tensorrt*.py"))
    heavy = {"torch", "transformers", "onnx", "onnx_ir", "onnxscript", "tensorrt", "polygraphy", "onnxruntime", "numpy"}
    script = (
        f"import importlib, sys\nfor name in {files}: importlib.import_module('pipeline.backends.' + name)\n"
        f"from pipeline.backends import tensorrt\ntensorrt.unavailable_reason()\nprint({heavy} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"


def test_tactic_sources_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake_tensorrt.install(monkeypatch, tmp_path, "8.6.0")
    monkeypatch.setenv("TENSORRT_TACTIC_SOURCES", "EDGE_MASK_CONVOLUTIONS, JIT_CONVOLUTIONS")
    built(tmp_path, "linear")
    sources = trt.TacticSource
    wanted = 1 << int(sources.EDGE_MASK_CONVOLUTIONS) | 1 << int(sources.JIT_CONVOLUTIONS)
    assert trt.state.last_config._sources == wanted
    assert "JIT_CONVOLUTIONS" in plan.read(tmp_path / "tensorrt").settings["tactic_sources"]
    monkeypatch.setenv("TENSORRT_TACTIC_SOURCES", "JIT_CONVOLUTION")
    with pytest.raises(InputError, match="Did you mean JIT_CONVOLUTIONS"):
        built(tmp_path, "linear")


@every
def test_parser_errors_name_every_node(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake_tensorrt.install(monkeypatch, tmp_path, version)
    trt.state.refused_operators = ("Relu", "Add")
    with pytest.raises(EngineRefused, match="cannot import 3 nodes") as caught:
        built(tmp_path, "linear")
    nodes = onnx.load(tmp_path / "tensorrt/model.qdq.onnx").graph.node
    refused = [node for node in nodes if node.op_type in ("Relu", "Add")]
    assert len(refused) == 3
    for node in refused:
        assert f"{node.name} ({node.op_type}): No importer registered" in str(caught.value)


def test_a_parser_without_node_names_and_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake_tensorrt.install(monkeypatch, tmp_path, "8.6.0")
    trt.state.refused_operators = ("Relu",)
    graph = models.linear(tmp_path / "tensorrt/model.qdq.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(EngineRefused, match=r"node \d+: No importer registered"):
        tensorrt.build(graph, graph.parent, recipe(tmp_path, **{"tensorrt.precision": "int8"}))


def test_a_file_that_is_no_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    (tmp_path / "model.qdq.onnx").write_bytes(b"not a graph")
    with pytest.raises(EngineRefused, match=r"cannot import .*model.qdq.onnx:\n  Failed to parse"):
        tensorrt.build(tmp_path / "model.qdq.onnx", tmp_path, recipe(tmp_path))


@every
def test_a_builder_that_gives_nothing_says_why(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake_tensorrt.install(monkeypatch, tmp_path, version)
    trt.state.build_fault = "Error Code 10: Could not find any implementation for node {ForeignNode}"
    with pytest.raises(EngineRefused, match=f"TensorRT {version} builds no int8 plan(.|\n)*Could not find any impl"):
        built(tmp_path, "linear")
    trt.state.build_fault = "another"
    with pytest.raises(EngineRefused, match="builds no int8 plan") as caught:  # what was said before is not said again
        built(tmp_path, "linear")
    assert "Could not find" not in str(caught.value)
    assert not (tmp_path / "tensorrt/model.plan").exists()


def test_the_fake_refuses_what_the_real_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Q/DQ without the flag INT8; otherwise the tests above would prove nothing of the flags."""
    fake_tensorrt.install(monkeypatch, tmp_path, "8.6.0")
    monkeypatch.setattr("pipeline.backends._tensorrt.build.FLAGS", {"int8": {"fp16": True}})
    with pytest.raises(EngineRefused, match="INT8 mode needs to be enabled"):
        built(tmp_path, "linear")


# --- the timing cache ---


def test_the_next_build_gets_the_timings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    built(tmp_path, "linear")
    built(tmp_path, "linear")
    assert trt.state.caches == [b"", fake_tensorrt.CACHE]


@pytest.mark.parametrize(
    ("version", "driver"),
    [
        ("11.4.0", FakeDriver()),
        ("10.13.3", FakeDriver(name="NVIDIA Other")),
        ("10.13.3", FakeDriver(capability=(9, 0))),
    ],
)
def test_every_machine_has_its_own_timings(
    version: str, driver: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    built(tmp_path, "linear")
    trt = fake_tensorrt.install(monkeypatch, tmp_path, version, driver)
    built(tmp_path, "linear")
    assert trt.state.caches == [b""]
    trt = fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    built(tmp_path, "linear")
    assert trt.state.caches == [fake_tensorrt.CACHE], "what the other machine left is no loss"


def test_dialects_have_their_own_timings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    built(tmp_path, "linear")
    built(tmp_path, "linear", **{"tensorrt.target": "8.6"})
    assert trt.state.caches == [b"", b""]
    assert len(list((tmp_path / "cache").rglob("*.timing"))) == 2


def test_a_cache_that_tensorrt_refuses_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trt = fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    built(tmp_path, "linear")
    (path,) = (tmp_path / "cache").rglob("*.timing")
    path.write_bytes(b"of another driver, or garbage")
    assert (built(tmp_path, "linear") / "model.plan").exists()
    assert trt.state.caches == [b""] and "The timing cache is of another device" in caplog.text
    built(tmp_path, "linear")
    assert trt.state.caches == [b"", fake_tensorrt.CACHE]


def test_a_cache_that_cannot_be_written_costs_no_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    (tmp_path / "cache").write_text("a file where the folder would be")
    assert (built(tmp_path, "linear") / "model.plan").exists()
    assert "cannot be written" in caplog.text


# --- plans of elsewhere ---


@pytest.mark.parametrize(
    ("version", "driver", "said"),
    [
        ("10.16.1", FakeDriver(), "here is TensorRT 10.16.1 on NVIDIA Fake"),
        ("10.13.3", FakeDriver(name="NVIDIA H200"), "here is TensorRT 10.13.3 on NVIDIA H200"),
        ("10.13.3", FakeDriver(capability=(9, 0)), r"\(compute capability 9.0\)"),
    ],
)
def test_a_plan_of_another_machine_is_refused(
    version: str, driver: FakeDriver, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    folder = built(tmp_path / "bert", "linear")
    fake_tensorrt.install(monkeypatch, tmp_path, version, driver)
    with pytest.raises(ArtifactError, match=f"built by TensorRT 10.13.3 on NVIDIA Fake.*{said}"):
        tensorrt.load(folder, None)


@pytest.mark.parametrize("note", [None, "", "[]", "{}", '{"format": 2}', '{"format": 1, "tensorrt": "10.13.3"}'])
def test_a_plan_without_its_note_is_refused(note: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    folder = built(tmp_path / "bert", "linear")
    (folder / "plan.json").unlink()
    if note is not None:
        (folder / "plan.json").write_text(note)
    with pytest.raises(ArtifactError, match=r"plan.json (cannot be read|has format)"):
        tensorrt.load(folder, None)


def test_a_damaged_plan_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    folder = built(tmp_path / "bert", "linear")
    (folder / "model.plan").write_bytes(b"not an engine")
    with pytest.raises(ArtifactError, match=r"cannot be read by TensorRT(.|\n)*magicTag"):
        tensorrt.load(folder, None)


# --- batches ---


def test_what_is_wrong_at_a_batch_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault of NVIDIA/TensorRT#4853, for the tests of the stages: batches differ from their samples alone."""
    trt = fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    folder = built(tmp_path, "linear")
    engine, feeds = tensorrt.load(folder, None), models.feeds(folder / "model.qdq.onnx", 2)
    trt.state.wrong_at_batch = True
    alone = engine({"x": feeds["x"][1:]})["logits"]
    np.testing.assert_allclose(engine(feeds)["logits"][1:], -alone, atol=1e-5)


# --- through the stages ---


@every
def test_engine_and_verify(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that is silently wrong from the second sample of a batch on (NVIDIA/TensorRT#4853) is refused."""
    trt = fake_tensorrt.install(monkeypatch, tmp_path, version)
    workspace = models.export(tmp_path / "small", "tensorrt")
    asked = {"shapes.batches": (1, 4), "budgets.speedup": 0.0, "tensorrt.precision": "int8"}
    given = recipe(workspace.folder, **asked)
    for stage in ("engine", "verify"):
        stages.run(stage, given)
    report = json.loads((workspace.folder / "report.json").read_text())
    assert (report["verdict"], report["precision"], report["backend"]) == ("pass", "int8", "tensorrt")
    assert [(row["batch"], row["fault"]) for row in report["batches"]] == [(1, None), (2, None), (4, None)]
    record = json.loads((workspace.folder / "tensorrt/engine.json").read_text())
    assert record["versions"] == {"tensorrt": version, "gpu": "NVIDIA Fake", "compute capability": "8.6"}
    trt.state.wrong_at_batch = True
    with pytest.raises(EngineRefused, match="as one batch: the difference has"):
        stages.run("engine", given, force=True)


def test_another_gpu_makes_the_stage_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3")
    workspace = models.export(tmp_path / "small", "tensorrt")
    given = recipe(workspace.folder, **{"shapes.batches": (1, 4), "tensorrt.precision": "int8"})
    stages.run("engine", given)
    assert stages.why_stale("engine", given) == []
    fake_tensorrt.install(monkeypatch, tmp_path, "10.13.3", FakeDriver("NVIDIA H200", (9, 0)))
    assert "version gpu changed: NVIDIA Fake -> NVIDIA H200" in stages.why_stale("engine", given)
    with pytest.raises(ArtifactError, match=r"engine bert --backend tensorrt .*/small`"):
        backends.load_checked(workspace, "tensorrt", None)


@pytest.mark.parametrize(
    ("packages", "target"), [({"tensorrt": "8.6.0"}, "8.6"), ({"tensorrt-cu12": "10.16.1"}, "10"), ({}, "10")]
)
def test_the_dialect_is_that_of_a_tensorrt_which_does_not_load_here(
    packages: dict[str, str], target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8.6.0 without cuDNN 8 raises ImportError: its graphs are written here and built where there is a GPU."""

    def version(name: str) -> str:
        if name not in packages:
            raise api.PackageNotFoundError(name)
        return packages[name]

    monkeypatch.setattr(api, "installed", lambda: None)
    monkeypatch.setattr(api, "version", version)
    assert tensorrt.target(recipe(tmp_path)) == target
    assert tensorrt.target(recipe(tmp_path, **{"tensorrt.target": "8.6"})) == "8.6"
    qdq = models.attention(tmp_path / "model.qdq.onnx")
    assert ("--fp16" in tensorrt.command(qdq, tmp_path, recipe(tmp_path))) == (target == "8.6")


@every
def test_a_driver_that_is_too_old_is_told_in_tensorrts_own_words(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the real 8.6.0 does it where CUDA cannot start: a warning, then pybind11's TypeError."""
    trt = fake_tensorrt.install(monkeypatch, tmp_path, version)

    def failing(logger: Any) -> None:
        trt._register(logger)
        trt._say("WARNING", "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(trt, "Builder", failing)
    said = (
        rf"TensorRT {version} cannot use the GPU here; it said:\n  CUDA initialization failure with error: 35\nThe dri"
    )
    with pytest.raises(BackendUnavailable, match=said):
        built(tmp_path / "m")
