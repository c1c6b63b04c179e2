"""The exported graphs compute what PyTorch computes, and the comparison that says so can fail."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from calibration.arithmetic import scale_of
from helpers import ROOT
from pipeline import backends
from pipeline.artifacts import Workspace
from pipeline.graph import find_pairs, keep_pairs
from pipeline.graph.build import initializer
from pipeline.judge.reference import exact_session
from pipeline.lowering import Candidates
from pipeline.model import loading, operator_parity
from pipeline.model.operator_parity import compare_operators
from pipeline.quantization import apply_amax
from pipeline.recipe import Recipe
from pipeline.stages import build

NAMES = ("bert", "segformer")
BACKENDS = ("openvino", "onnxruntime")
Exported = Callable[[str], Recipe]


@dataclass
class Case:
    """One exported folder, with PyTorch's quantized model at the scales of its graph."""

    recipe: Recipe
    source: loading.Source
    model: Any
    inputs: dict[str, np.ndarray]

    def path(self, name: str) -> Path:
        return self.recipe.folder / name

    @property
    def graph(self) -> ir.Model:
        return ir.load(self.path("candidates.onnx"))

    @property
    def quantizers(self) -> list[dict[str, Any]]:
        return list(json.loads(self.path("quantizers.json").read_text(encoding="utf-8"))["quantizers"])


@pytest.fixture(scope="session", params=NAMES)
def case(request: pytest.FixtureRequest, exported: Exported) -> Case:
    from calibration import CalibrationTable

    recipe = exported(request.param)
    source = loading.open_source(recipe)
    table = CalibrationTable.read(recipe.folder / "calibration.json")
    model = loading.quantized_model(source, recipe)
    apply_amax(model, {n: r.amax_for("max") for n, r in table.records.items() if r.degenerate is None})  # type: ignore[misc]
    with np.load(recipe.folder / "reference.npz", allow_pickle=False) as reference:
        inputs = {k.removeprefix("input/"): reference[k][:2] for k in reference.files if k.startswith("input/")}
    return Case(recipe, source, model, inputs)


@pytest.fixture(scope="session", params=BACKENDS)
def lowered(request: pytest.FixtureRequest, case: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Path]:
    """Returns the case and the folder of one backend after `lower`."""
    if (reason := backends.get(request.param).unavailable_reason()) is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("lowered") / request.param
    shutil.copytree(case.recipe.folder, folder)
    recipe = case.recipe.model_copy(update={"folder": folder, "backend": request.param})
    build.run_stage("lower", recipe)
    return case, folder / request.param


def onnx_files(case: Case) -> list[Path]:
    return sorted(case.recipe.folder.glob("*.onnx"))


# --- operator by operator ---


def test_every_operator_equals_pytorchs_fake_quantization(case: Case, tmp_path: Path) -> None:
    results = compare_operators(case.model, case.graph, case.inputs, tmp_path)
    assert {r.site for r in results} == {q["site"] for q in case.quantizers}, "none is left out"
    assert [r for r in results if not r.equal] == []
    assert all(r.largest > 0 and r.elements > 0 for r in results)
    assert sum(r.flips for r in results) <= 1e-4 * sum(r.elements for r in results)


def test_comparing_in_portions_finds_the_same(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a large image needs: not all activations fit the memory at a time."""
    whole = compare_operators(case.model, case.graph, case.inputs, tmp_path)
    runs: list[set[str]] = []
    compare = operator_parity._compare_portion
    monkeypatch.setattr(operator_parity, "MOST_HELD", 1 << 13)
    monkeypatch.setattr(
        operator_parity, "_compare_portion", lambda *given: (runs.append({*given[2]}), compare(*given))[1]
    )
    found = compare_operators(case.model, case.graph, case.inputs, tmp_path)
    assert sorted(found, key=lambda r: r.site) == sorted(whole, key=lambda r: r.site)
    assert len(runs) > 3 and len(set.union(*runs)) == sum(map(len, runs)) == len(case.quantizers)
    assert list(tmp_path.iterdir()) == []


def test_the_export_wrote_down_the_same_comparison(case: Case) -> None:
    rows = json.loads(case.path("parity.json").read_text(encoding="utf-8"))
    assert {r["site"] for r in rows} == {q["site"] for q in case.quantizers}
    assert all(r["equal"] and r["beyond"] == 0 for r in rows)


@pytest.mark.parametrize("role", ["activation", "weight"])
def test_the_comparison_fails_when_one_scale_is_corrupted(case: Case, role: str, tmp_path: Path) -> None:
    kinds = {q["kind"] for q in case.quantizers if q["role"] == role}
    assert len(kinds) >= (5 if role == "activation" else 1)
    for kind in kinds:
        chosen = [q for q in case.quantizers if q["kind"] == kind and q["role"] == role]
        victim, graph = chosen[len(chosen) // 2], case.graph
        (pair,) = (p for p in find_pairs(graph) if p.names == (victim["name"],))
        scale = np.array(pair.scale)
        scale[(0,) * scale.ndim] *= np.float32(1.02)  # one value of one scale, by 2 per cent
        initializer(graph, f"{victim['name']}.scale", scale)
        results = compare_operators(case.model, graph, case.inputs, tmp_path)
        assert [r.site for r in results if not r.equal] == [victim["site"]], kind


@pytest.mark.parametrize(
    ("found", "flips", "misplaced"),
    [
        ([0.0, 2.0, 3.0, 127.0], 0, 0),
        ([1.0, 2.0, 3.0, 127.0], 1, 0),  # 0.5 rounded up
        ([1.0, 1.0, 3.0, 127.0], 2, 0),
        ([0.0, 2.0, 4.0, 127.0], 0, 1),  # 3.2 is not on a boundary
        ([2.0, 2.0, 3.0, 127.0], 0, 1),  # 0.5 is, but two steps are no rounding
        ([0.0, 2.0, 3.0, 128.0], 0, 1),
        ([0.0, np.nan, 3.0, 127.0], 0, 1),
    ],
)
def test_values_on_a_rounding_boundary_are_told_from_wrong_ones(found: list[float], flips: int, misplaced: int) -> None:
    import torch

    from pipeline.model.operator_parity import _differing
    from pipeline.quantization import QuantDescriptor, TensorQuantizer

    quantizer = TensorQuantizer(QuantDescriptor(amax=127.0))  # one step is 1
    x = torch.tensor([0.5, 1.5, 3.2, 1000.0])
    captured = (x, quantizer(x), None)
    result = _differing(torch.nn.Sequential(quantizer), "0", captured, np.array(found, np.float32))
    assert result == (flips, misplaced)


def test_the_comparison_fails_when_a_quantizer_of_the_graph_is_missing(case: Case, tmp_path: Path) -> None:
    graph = case.graph
    names = {q["name"] for q in case.quantizers}
    off = next(q["name"] for q in case.quantizers if q["role"] == "activation")
    keep_pairs(graph, names - {off})
    with pytest.raises(KeyError, match=re.escape(off)):
        compare_operators(case.model, graph, case.inputs, tmp_path)


def test_the_comparison_fails_when_a_weight_is_not_quantized(case: Case, tmp_path: Path) -> None:
    graph = case.graph
    victim = next(q for q in case.quantizers if q["role"] == "weight")
    keep_pairs(graph, {q["name"] for q in case.quantizers} - {victim["name"]})
    results = compare_operators(case.model, graph, case.inputs, tmp_path)
    assert [r.site for r in results if not r.equal] == [victim["site"]]


# --- end to end ---


def test_end_to_end_the_quantized_predictions_agree(case: Case) -> None:
    expected = loading.run_torch(case.model, case.inputs, case.source.outputs)
    found = exact_session(case.path("candidates.onnx"), 1)(case.inputs)
    for name, value in expected.items():
        assert cosine(found[name], value) > 0.9999, name
    if case.recipe.family == "segformer":
        agree = (expected["logits"].argmax(1) == found["logits"].argmax(1)).mean()
        assert agree >= 0.99
    else:
        for name in expected:
            assert (expected[name].argmax(1) == found[name].argmax(1)).all(), name


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    x, y = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def at_other_sizes(case: Case) -> Iterator[dict[str, np.ndarray]]:
    """Yields inputs of batches and lengths that the graphs were not traced with."""
    for batch, length in ((1, 8), (3, 50), (5, 64)):
        shapes = case.recipe.shapes.model_copy(update={"sequence_length": length})
        recipe = case.recipe.model_copy(update={"shapes": shapes, "seed": batch})
        yield loading.random_inputs(case.source, recipe, batch)


def test_the_quantized_graph_runs_at_any_batch_and_length(case: Case) -> None:
    session = exact_session(case.path("candidates.onnx"), 1)
    for inputs in at_other_sizes(case):
        expected, found = loading.run_torch(case.model, inputs, case.source.outputs), session(inputs)
        for name, value in expected.items():
            assert found[name].shape == value.shape
            assert cosine(found[name], value) > 0.999, (name, value.shape)


def test_the_lowered_graphs_run_at_any_batch_and_length(lowered: tuple[Case, Path]) -> None:
    case, folder = lowered
    session, original = exact_session(folder / "model.qdq.onnx", 1), exact_session(case.path("original.onnx"), 1)
    for inputs in at_other_sizes(case):
        for name, value in original(inputs).items():
            assert session(inputs)[name].shape == value.shape
            assert cosine(session(inputs)[name], value) > 0.95, (name, value.shape)


@pytest.mark.parametrize("file", ["original.onnx", "model.onnx"])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_float_graphs_run_at_any_batch_and_length(case: Case, file: str, batch: int) -> None:
    model = loading.float_model(case.source)
    for length in (8, 32, 64) if case.recipe.family == "bert" else (64,):
        shapes = case.recipe.shapes.model_copy(update={"sequence_length": length})
        recipe = case.recipe.model_copy(update={"shapes": shapes, "seed": batch})
        inputs = loading.random_inputs(case.source, recipe, batch)
        expected = loading.run_torch(model, inputs, case.source.outputs)
        found = exact_session(case.path(file), 1)(inputs)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name].shape == value.shape
            np.testing.assert_allclose(found[name], value, atol=1e-4 * np.abs(value).max(), rtol=0)


def test_the_float_outputs_of_the_reference_are_the_checkpoints(case: Case) -> None:
    expected = loading.run_torch(loading.float_model(case.source), case.inputs, case.source.outputs)
    with np.load(case.path("reference.npz"), allow_pickle=False) as reference:
        for name, value in expected.items():
            np.testing.assert_allclose(reference[f"output/{name}"][:2], value, atol=1e-4 * np.abs(value).max(), rtol=0)


# --- what is in the files ---


def test_every_graph_passes_the_checker(case: Case) -> None:
    files = onnx_files(case)
    assert [f.name for f in files] == ["candidates.onnx", "model.onnx", "original.onnx"]
    for file in files:
        onnx.checker.check_model(str(file), full_check=True)


def test_axes_that_change_have_names(case: Case) -> None:
    for file in onnx_files(case):
        for value in onnx.load(file).graph.input:
            dims = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            expected = ["batch", 3, 64, 64] if case.recipe.family == "segformer" else ["batch", "sequence"]
            assert dims == expected, file.name


def test_the_candidates_have_every_quantizer_and_nothing_else(case: Case) -> None:
    found = [name for pair in find_pairs(case.graph) for name in pair.names]
    assert sorted(found) == sorted(q["name"] for q in case.quantizers)
    assert not list(find_pairs(ir.load(case.path("model.onnx"))))


def test_nodes_are_named_after_modules(case: Case) -> None:
    modules = {name for name, _ in case.model.named_modules()}
    graph = case.graph.graph
    nodes = [str(n.name) for n in graph]
    assert len(set(nodes)) == len(nodes)
    scopes = {n.rpartition("/")[0] for n in nodes} - {""}
    assert scopes <= modules
    for node in graph:
        if node.op_type in ("MatMul", "Conv", "Gemm", "LayerNormalization", "QuantizeLinear", "Softmax"):
            assert "/" in str(node.name), f"{node.op_type} {node.name}: no module"
    for quantizer in case.quantizers:
        assert f"{quantizer['name']}/QuantizeLinear" in nodes
    parameters = [n for n in graph.initializers if n.endswith(("weight", "bias"))]
    assert len(parameters) > 10


def test_no_file_tells_where_it_was_made(case: Case) -> None:
    files = [*onnx_files(case), case.path("manifest.json"), case.path("quantizers.json"), case.path("parity.json")]
    traces = [str(ROOT), str(case.recipe.folder), sys.prefix, str(Path.home()) + "/", "site-packages", "stack_trace"]
    for file in files:
        content = file.read_bytes()
        if file.name == "manifest.json":  # the recipe is recorded there, with the paths that the user gave
            continue
        assert [t for t in traces if t.encode() in content] == [], file.name
        assert b".py" not in content, file.name


# --- after lower ---


def test_no_tensor_has_two_pairs(lowered: tuple[Case, Path]) -> None:
    _, folder = lowered
    pairs = list(find_pairs(ir.load(folder / "model.qdq.onnx")))
    sources = [pair.source.name for pair in pairs]
    assert sources and len(set(sources)) == len(sources)
    assert all(pair.source.const_value is None for pair in pairs), "no weight is quantized at run time"


def test_enabled_weights_are_int8_initializers(lowered: tuple[Case, Path]) -> None:
    case, folder = lowered
    decisions = json.loads((folder / "placement.json").read_text(encoding="utf-8"))["quantizers"]
    enabled = {d["name"] for d in decisions if d["enabled"]}
    weights = {q["name"] for q in case.quantizers if q["role"] == "weight"} & enabled
    proto = onnx.load(folder / "model.qdq.onnx")
    int8 = {t.name for t in proto.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1}
    assert int8 == {n.removesuffix("._weight_quantizer") + ".weight_int8" for n in weights}
    off = {q["site"] for q in case.quantizers if q["role"] == "weight" and q["name"] not in enabled}
    floats = [t for t in proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) > 1]
    large = [t.name for t in floats if np.prod(t.dims) > 64 and not t.name.endswith((".migration", ".weight_scale"))]
    assert all(any(site in name for site in off) for name in large), large


def test_the_int8_weights_are_four_times_smaller(lowered: tuple[Case, Path]) -> None:
    case, folder = lowered
    proto = onnx.load(folder / "model.qdq.onnx")
    int8 = [t for t in proto.graph.initializer if t.name.endswith(".weight_int8")]
    sizes = {t.name.removesuffix(".weight_int8"): np.prod(t.dims) for t in int8}
    state = loading.rewritten_model(case.source, case.recipe).state_dict()
    for name, size in sizes.items():
        assert state[f"{name}.weight"].numel() == size
    assert sum(len(t.raw_data) for t in int8) == sum(sizes.values()), "a byte a weight"


def test_the_dialect_changes_no_output(
    lowered: tuple[Case, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.lowering.selection import choice_of
    from pipeline.run import Run

    case, folder = lowered
    recipe = case.recipe.model_copy(update={"folder": folder.parent, "backend": folder.name})
    run = Run.of(recipe)
    candidates = Candidates(run)
    first = candidates.backend.dialect(recipe)[:1]  # the one pass that is not exact: it rounds weights otherwise
    bounded = first if first == ("saturation_free",) else ()
    monkeypatch.setattr(candidates.backend, "dialect", lambda recipe: bounded)
    plain = candidates.lower(choice_of(run))
    assert sorted(d.name for d in plain.decisions if d.enabled) == sorted(plain.scales)
    ir.save(plain.graph, tmp_path / "plain.onnx")
    expected = exact_session(tmp_path / "plain.onnx", 1)(case.inputs)
    found = exact_session(folder / "model.qdq.onnx", 1)(case.inputs)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5 * np.abs(value).max(), rtol=0)


def test_the_lowered_graph_names_no_path_and_passes_the_checker(lowered: tuple[Case, Path]) -> None:
    _, folder = lowered
    onnx.checker.check_model(str(folder / "model.qdq.onnx"), full_check=True)
    content = (folder / "model.qdq.onnx").read_bytes()
    assert b".py" not in content and str(ROOT).encode() not in content


def test_amax_is_written_down_beside_the_scale_that_it_gave(lowered: tuple[Case, Path]) -> None:
    case, folder = lowered
    decisions = json.loads((folder / "placement.json").read_text(encoding="utf-8"))["quantizers"]
    axes = {q["name"]: q["axis"] for q in case.quantizers}
    assert all((d["amax"] is None) == (not d["enabled"]) for d in decisions)
    for d in (d for d in decisions if d["enabled"]):
        expected = scale_of(d["amax"])
        if axes[d["name"]] is None:
            assert d["scale"] == expected.tolist()
        else:  # of weights whose products could saturate the scale is larger
            assert (np.float32(d["scale"]) >= expected).all() and expected.shape == np.shape(d["scale"])


def test_scales_in_the_graph_are_those_written_down(lowered: tuple[Case, Path]) -> None:
    case, folder = lowered
    decisions = json.loads((folder / "placement.json").read_text(encoding="utf-8"))["quantizers"]
    scales = {d["name"]: d["scale"] for d in decisions if d["enabled"]}
    assert all(d["scale"] is None for d in decisions if not d["enabled"])
    pairs = list(find_pairs(ir.load(folder / "model.qdq.onnx")))
    for pair in pairs:
        for name in set(pair.names) & scales.keys():
            np.testing.assert_allclose(pair.scale, scales[name], rtol=1e-6)
    activations = {q["name"] for q in case.quantizers if q["role"] == "activation"}
    assert {n for p in pairs for n in p.names} >= activations & scales.keys()
    assert Workspace(folder.parent).intact(f"{folder.name}/placement.json")
