"""The methods of `bench`: the peers calibrate on our samples, quantize, stay silent, and may break alone."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from pipeline.artifacts import Workspace
from pipeline.bench import methods, speed
from pipeline.bench.methods import _calibration_data, _peers
from pipeline.errors import ArtifactError, BackendUnavailable, InputError
from pipeline.files import sha256
from pipeline.judge import parity
from pipeline.judge.evaluation import Reference, one_by_one
from pipeline.judge.reference import exact_session
from pipeline.measure import machine, processor
from pipeline.model import loading, samples
from pipeline.recipe import Recipe

PEERS = [name for name, method in methods.found().items() if method.peer]
OWN = [name for name in methods.found() if name.startswith(("ours_", "float_", "rewritten_", "tensorrt_"))]
PACKAGES = {
    "nncf_openvino": ["nncf"],
    "nncf_openvino_float_depthwise": ["nncf"],
    "modelopt_openvino": ["modelopt", "onnx_graphsurgeon", "onnxslim", "lief"],
    "nncf_openvino_overflow_fix": ["nncf"],
    "onnxruntime_static": ["onnx", "sympy"],
    "onnxruntime_static_reduce_range": ["onnx", "sympy"],
    "onnxruntime_dynamic": ["onnx", "sympy"],
    "onnxruntime_dynamic_reduce_range": ["onnx", "sympy"],
}
# What each peer keeps of a tiny random model, int8 everywhere: the smallest cosine of any output with float's.
COSINE = {
    "nncf_openvino": 0.98,
    "nncf_openvino_float_depthwise": 0.98,
    "modelopt_openvino": 0.95,
    "nncf_openvino_overflow_fix": 0.98,
    "onnxruntime_static": 0.98,
    "onnxruntime_static_reduce_range": 0.97,
    "onnxruntime_dynamic": 0.98,
    "onnxruntime_dynamic_reduce_range": 0.97,
}
FOR_SATURATING = [name for name in PEERS if name.endswith(("overflow_fix", "reduce_range"))]

Exported = Callable[[str], Recipe]


@pytest.fixture
def workspace_of(exported: Exported, tmp_path: Path) -> Callable[[str], Workspace]:
    """Returns a function: workspace_of("bert") -> a copy of that folder."""
    return lambda name: Workspace(Path(shutil.copytree(exported(name).folder, tmp_path / name)))


def cosine(workspace: Workspace, runner: methods.Runner) -> float:
    """Returns the smallest cosine of a method's outputs with float's, held-out samples."""
    reference = Reference.read(workspace)
    found = one_by_one(runner, reference.inputs)
    assert {name: x.shape for name, x in found.items()} == {name: x.shape for name, x in reference.outputs.items()}
    return min(parity.cosine(reference.outputs[name], found[name]) for name in reference.outputs)


def test_every_method_is_ours_or_a_peer() -> None:
    assert sorted([*PEERS, *OWN]) == list(methods.found())
    assert not set(PEERS) & set(OWN)
    assert set(PEERS) == set(PACKAGES) == set(COSINE)


def test_no_two_files_have_a_method_of_one_name() -> None:
    files = [file.stem for file in Path(methods.__file__).parent.glob("[!_]*.py")]
    lists = [importlib.import_module(f"pipeline.bench.methods.{file}").METHODS for file in files]
    assert sorted(name for names in lists for name in names) == list(methods.found())


@pytest.mark.parametrize(("name", "package"), [(n, p) for n, needed in PACKAGES.items() for p in needed])
def test_a_missing_package_names_the_extra(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "processor_class", lambda: "avx2")  # where every method has its place
    for needed in PACKAGES[name]:
        monkeypatch.setitem(sys.modules, needed, SimpleNamespace(__spec__=object()))
    assert methods.get(name).unavailable_reason() is None
    monkeypatch.setitem(sys.modules, package, None)
    assert methods.get(name).unavailable_reason() == f"the package {package!r} is not installed: {_peers.INSTALL}"


def test_asking_whether_methods_can_run_loads_no_torch() -> None:
    code = (
        "import sys\nfrom pipeline.bench import methods\n"
        "for method in methods.found().values(): method.unavailable_reason()\n"
        "print([m for m in ('torch', 'nncf', 'modelopt') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("model", ["bert", "segformer"])
def test_peers_get_the_samples_of_the_calibrate_stage(model: str, exported: Exported) -> None:
    recipe = exported(model)
    expected, digest = samples.calibration(recipe, loading.open_source(recipe), recipe.folder)
    found = _calibration_data.arrays(Workspace(recipe.folder))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)
    assert digest == json.loads((recipe.folder / "calibration.json").read_text())["data_digest"]
    count = _calibration_data.count(found)  # a long text becomes more than one
    assert count == len(next(iter(expected.values()))) >= recipe.calibration.samples

    reader = _calibration_data.reader(_calibration_data.one_by_one(found))
    batches = list(iter(reader.get_next, None))
    assert len(batches) == count
    for name, value in expected.items():
        whole = (
            value
            if "attention_mask" not in expected
            else [v[m == 1] for v, m in zip(value, expected["attention_mask"], strict=True)]
        )
        assert sorted(batch[name].tobytes() for batch in batches) == sorted(np.asarray(row).tobytes() for row in whole)


def test_other_data_than_the_engines_are_refused(workspace_of: Callable[[str], Workspace], tmp_path: Path) -> None:
    workspace = workspace_of("bert")
    manifest = workspace.manifest
    content = json.loads(Path(manifest.recipe["data"]).read_text())
    content["data"][0]["paragraphs"].reverse()
    (tmp_path / "other.json").write_text(json.dumps(content))
    manifest.recipe["data"] = str(tmp_path / "other.json")
    (workspace.folder / "manifest.json").write_text(manifest.to_json())
    with pytest.raises(ArtifactError, match="the calibration data are not those"):
        _calibration_data.arrays(workspace)


@pytest.mark.parametrize("model", ["bert", "segformer"])
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_close_to_float_silent_and_tidy(
    name: str, model: str, workspace_of: Callable[[str], Workspace], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    method, workspace, area = methods.get(name), workspace_of(model), tmp_path / "area"
    if (reason := method.unavailable_reason()) is not None:
        pytest.skip(reason)
    if (name, model) == ("nncf_openvino_float_depthwise", "bert"):
        with pytest.raises(BackendUnavailable, match="no depthwise convolutions"):
            method.build(workspace, area)
        return
    before = {p: sha256(p) for p in tmp_path.rglob("*") if p.is_file()}
    capfd.readouterr()
    method.build(workspace, area)
    runner = method.load(workspace, area, 1)
    assert capfd.readouterr() == ("", "")
    after = {p: sha256(p) for p in tmp_path.rglob("*") if p.is_file() and area not in p.parents}
    assert after == before, "a peer wrote outside its area"
    limit = COSINE[name]
    if (name, model) == ("nncf_openvino", "segformer"):
        limit = -1  # OpenVINO computes its depthwise convolutions wrong on some CPUs
    if processor.saturates(machine.processor_class()) and name not in FOR_SATURATING:
        limit = -1  # full-range weights saturate here: that is why the others exist
    assert limit < cosine(workspace, runner) < 0.999999, "not close to float, or float itself"


@pytest.mark.parametrize("name", ["onnxruntime_static", "nncf_openvino", "float_openvino", "float_onnxruntime"])
def test_what_was_made_is_loaded_again_without_making_it(
    name: str, workspace_of: Callable[[str], Workspace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, workspace = methods.get(name), workspace_of("bert")
    if (reason := method.unavailable_reason()) is not None:
        pytest.skip(reason)
    feeds = Reference.read(workspace).first(2).inputs
    method.build(workspace, tmp_path / "area")
    first = method.load(workspace, tmp_path / "area", 1)(feeds)
    before = {p: sha256(p) for p in tmp_path.rglob("*") if p.is_file()}
    monkeypatch.setattr(_peers, "call", raises(AssertionError("quantized again")))
    again = method.load(workspace, tmp_path / "area", 1)(feeds)
    assert {p: sha256(p) for p in tmp_path.rglob("*") if p.is_file()} == before
    for output, value in first.items():
        np.testing.assert_allclose(again[output], value, atol=1e-6)


def test_an_unknown_method_offers_the_near_ones() -> None:
    with pytest.raises(InputError, match=r"unknown method 'ours_openvno'\. Did you mean ours_openvino"):
        methods.get("ours_openvno")


def test_what_all_are_compared_with_is_always_timed(
    workspace_of: Callable[[str], Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = workspace_of("bert")
    recipe = Recipe.load("bert", overrides={"folder": workspace.folder, "verification.runs": 5})
    table = speed.run(recipe, batch=1, wanted=["float_openvino", "float_openvino"])
    assert [row["method"] for row in table["methods"]] == [methods.BASE, "float_openvino"]
    assert all(row["speedup"]["median"] > 0 for row in table["methods"])
    monkeypatch.setattr(
        type(methods.get(methods.BASE)), "unavailable_reason", lambda _: "not installed: pip install it"
    )
    with pytest.raises(BackendUnavailable, match=r"float_onnxruntime, which all .* here: not installed"):
        speed.run(recipe, batch=1, wanted=["float_openvino"])


def test_static_ranges_come_from_the_samples(workspace_of: Callable[[str], Workspace], tmp_path: Path) -> None:
    workspace, static = workspace_of("segformer"), methods.get("onnxruntime_static")
    assert isinstance(static, _peers.Peer)
    samples = _calibration_data.arrays(workspace)
    fit = {}
    for factor in (1.0, 0.01):
        faint = {name: (value * factor).astype(value.dtype) for name, value in samples.items()}
        area = tmp_path / str(factor)
        area.mkdir()
        static.quantize(methods.original(workspace), area, faint)
        fit[factor] = cosine(workspace, exact_session(area / "quantized.onnx", 1))  # as written: no kernel saturates
    assert fit[1.0] > COSINE["onnxruntime_static"] > fit[0.01]


@pytest.mark.parametrize(
    ("name", "operator"), [("onnxruntime_static", "QuantizeLinear"), ("onnxruntime_dynamic", "DynamicQuantizeLinear")]
)
def test_onnx_runtimes_own_quantizers_quantize_the_original_graph(
    name: str, operator: str, workspace_of: Callable[[str], Workspace], tmp_path: Path
) -> None:
    methods.get(name).build(workspace_of("bert"), tmp_path / "area")
    graph = onnx.load(tmp_path / "area" / "quantized.onnx").graph
    assert operator in {node.op_type for node in graph.node}
    weights = [x for x in graph.initializer if x.data_type == onnx.TensorProto.INT8 and len(x.dims) == 2]
    assert len(weights) == 2 * 6 + 1, "query, key, value, output, and two of the feed-forward a layer; the head"


def fake(peer: bool, fault: Callable[[], Any]) -> methods.Method:
    """Returns a method that calls `fault` to be loaded."""

    class Fake(methods.Method):
        def unavailable_reason(self) -> None:
            return None

        def load(self, workspace: Workspace, area: Path, threads: int) -> methods.Runner:
            runner: methods.Runner = fault()
            return runner

    Fake.peer = peer
    return Fake("fake", "none")


def raises(error: Exception) -> Callable[[], Any]:
    def fault() -> Any:
        raise error

    return fault


def runs_badly() -> Callable[..., Any]:
    return lambda feeds: {}["logits"]


FAULTS = {
    "while it is made": (raises(RuntimeError("no such kernel\nmore lines")), "RuntimeError: no such kernel"),
    "while it runs": (runs_badly, "KeyError: 'logits' is missing"),
    "by saying that it does not apply": (raises(BackendUnavailable("nothing to do")), "nothing to do"),
}


@pytest.mark.parametrize(("fault", "said"), FAULTS.values(), ids=FAULTS.keys())
def test_a_broken_peer_is_a_row_and_a_broken_method_of_ours_an_error(
    fault: Callable[[], Any],
    said: str,
    workspace_of: Callable[[str], Workspace],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workspace = workspace_of("bert")
    recipe = Recipe.load("bert", overrides={"folder": workspace.folder, "verification.runs": 5})
    real = methods.get

    monkeypatch.setattr(methods, "get", lambda name: fake(True, fault) if name == "fake" else real(name))
    rows = {row["method"]: row for row in speed.run(recipe, batch=1, wanted=[speed.BASE, "fake"])["methods"]}
    assert rows["fake"]["skipped"] == said
    assert "latency" not in rows["fake"]
    assert rows[speed.BASE]["accuracy"]["cosine"] == pytest.approx(1)
    assert rows[speed.BASE]["speedup"]["median"] == pytest.approx(1)

    monkeypatch.setattr(methods, "get", lambda name: fake(False, fault) if name == "fake" else real(name))
    with pytest.raises(
        (RuntimeError, KeyError, BackendUnavailable), match=re.escape(said.rpartition(": ")[2].split(" is ")[0])
    ):
        speed.run(recipe, batch=1, wanted=[speed.BASE, "fake"])
