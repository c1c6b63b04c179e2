"""Tiny models lowered for TensorRT 8.6 and for 10 and 11, on a machine that has neither: types, placement, outputs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from helpers import onnx_text
from pipeline import backends, stages
from pipeline.errors import BackendUnavailable, InputError
from pipeline.graph import BY_NAME, dropped, find_pairs
from pipeline.graph.attention import keep_fused_attention
from pipeline.graph.blocks import blocks as attention_blocks
from pipeline.graph.hoist import hoist_above_layout
from pipeline.graph.nodes import producer
from pipeline.graph.pairs import scales_of
from pipeline.graph.view import View
from pipeline.graph.write import write_checked
from pipeline.judge.reference import exact_session
from pipeline.lint import lint
from pipeline.lowering import Candidates
from pipeline.lowering.selection import choice_of
from pipeline.recipe import Recipe
from pipeline.run import Run
from pipeline.stages import build

Exported = Callable[[str], Recipe]

TARGETS = ("8.6", "10")
PRODUCTS = ("MatMul", "Conv", "Gemm")
# Root mean square of the difference from fp32 in opset 20, as a share of the output. Measured for the QDQ graphs: 0 for
# 8.6, and for 10 0.019 (bert) and 0.006 (segformer), of values that fall on the other side of a rounding boundary of
# int8; the float graphs, which have none, differ by 4e-7 and 8e-4.
TOLERANCE = {"8.6": 1e-5, "10": 0.04}
FLOAT_TOLERANCE = {"8.6": 1e-5, "10": 2e-3}


@dataclass(frozen=True)
class Lowered:
    """One model lowered for one target: its folder, and the graph in it."""

    recipe: Recipe
    target: str

    @property
    def file(self) -> Path:
        return self.recipe.folder / "tensorrt" / "model.qdq.onnx"

    @property
    def graph(self) -> ir.Model:
        return ir.load(self.file)

    @property
    def quantizers(self) -> list[dict[str, Any]]:
        text = (self.file.parent / "placement.json").read_text(encoding="utf-8")
        found: list[dict[str, Any]] = json.loads(text)["quantizers"]
        return found

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        return self.arrays("input")

    def arrays(self, kind: str) -> dict[str, np.ndarray]:
        """Returns the held-out samples' inputs, or the float model's outputs on them."""
        with np.load(self.recipe.folder / "reference.npz", allow_pickle=False) as arrays:
            return {k.removeprefix(f"{kind}/"): arrays[k] for k in arrays.files if k.startswith(f"{kind}/")}


def lower(recipe: Recipe, target: str, root: Path, **settings: Any) -> Lowered:
    """Returns a folder after the stage `lower` for TensorRT; whether TensorRT runs here does not matter."""
    folder = root / recipe.folder.name
    shutil.copytree(recipe.folder, folder, dirs_exist_ok=True)
    tensorrt = recipe.tensorrt.model_copy(update={"target": target})
    recipe = recipe.model_copy(update={"folder": folder, "backend": "tensorrt", "tensorrt": tensorrt, **settings})
    build.run_stage("lower", recipe)
    return Lowered(recipe, target)


@pytest.fixture(scope="module", params=[(m, t) for m in ("bert", "segformer") for t in TARGETS], ids="-".join)
def lowered(request: pytest.FixtureRequest, exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Lowered:
    model, target = request.param
    return lower(exported(model), target, tmp_path_factory.mktemp(f"{model}-{target}"))


def plain(lowered: Lowered, area: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the same quantized graph in fp32 and opset 20: the dialect without its last pass."""
    candidates = Candidates(Run.of(lowered.recipe))
    passes = candidates.backend.dialect(lowered.recipe)
    assert passes[-1] in ("opset_17", "half_precision")
    monkeypatch.setattr(candidates.backend, "dialect", lambda recipe: passes[:-1])
    graph = candidates.lower(choice_of(Run.of(lowered.recipe))).graph
    ir.save(graph, area / "plain.onnx")
    return area / "plain.onnx"


def products(model: ir.Model) -> Iterator[tuple[ir.Node, list[str]]]:
    """Yields every product and what makes its operands: an operator's type, '' for what is stored or an input."""
    for node in model.graph:
        if node.op_type in PRODUCTS:
            makers = [producer(value) for value in node.inputs[:2]]
            yield node, [maker.op_type if maker is not None else "" for maker in makers]


def test_the_opset_and_the_types(lowered: Lowered) -> None:
    onnx.checker.check_model(str(lowered.file), full_check=True)
    graph = lowered.graph
    floats = {str(v.dtype) for n in graph.graph for v in n.outputs} & {"FLOAT", "FLOAT16"}
    gelus = [n for n in graph.graph if n.op_type == "Gelu"]
    norms = [n for n in graph.graph if n.op_type == "LayerNormalization"]
    assert norms and not [n for n in graph.graph if n.op_type == "ReduceMean"]
    assert all(v.dtype in (ir.DataType.FLOAT, ir.DataType.INT64) for v in (*graph.graph.inputs, *graph.graph.outputs))
    if lowered.target == "8.6":
        assert graph.opset_imports[""] == 17 and floats == {"FLOAT"} and not gelus
        assert (
            sum(n.op_type == "Erf" for n in graph.graph) == len({n.name for n in graph.graph if n.op_type == "Erf"}) > 0
        )
    else:
        assert 19 <= graph.opset_imports[""] <= 20 and gelus
        single = [v.name for n in graph.graph for v in n.outputs if v.dtype == ir.DataType.FLOAT]
        assert sorted(map(str, single)) == sorted(str(v.name) for v in graph.graph.outputs), "nothing else is fp32"
        assert all(norm.attributes["stash_type"].as_int() == ir.DataType.FLOAT.value for norm in norms)


def off(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(np.square(found - expected).mean() / np.square(expected).mean()))


def test_outputs_are_those_of_the_graph_in_fp32(
    lowered: Lowered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = exact_session(plain(lowered, tmp_path, monkeypatch), 1)(lowered.inputs)
    found = exact_session(lowered.file, 1)(lowered.inputs)
    for name, value in expected.items():
        assert found[name].dtype == np.float32
        assert off(found[name], value) < TOLERANCE[lowered.target], name


def test_an_onnxruntime_that_truncates_fp16_is_no_reference(lowered: Lowered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.29.0")
    if lowered.target == "8.6":  # fp32 is rounded by every version
        assert {*exact_session(lowered.file, 1).input_names} == {*lowered.inputs}
        return
    with pytest.raises(BackendUnavailable, match=r"1\.29\.0 truncates .*pip install 'onnxruntime>=1\.30'"):
        exact_session(lowered.file, 1)


def test_this_onnxruntime_rounds_fp16() -> None:
    """What `exact_session` believes of versions is true of the installed one: halves to even, all others to nearest."""
    x, scale = np.linspace(-3, 3, 601, dtype=np.float16), np.float16(0.0625)
    graph = onnx_text.parse(
        "g (float16[n] x) => (int8[n] a_q) { a_q = QuantizeLinear (x, s, z) }", s=scale, z=np.int8(0)
    )
    (found,) = onnx_text.run(graph, x=x)
    assert (found == np.rint(x.astype(np.float32) / np.float32(scale))).all()


def test_int8_with_fp16_is_as_close_to_float_as_int8_with_fp32(
    lowered: Lowered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_fp32 = exact_session(plain(lowered, tmp_path, monkeypatch), 1)(lowered.inputs)
    found = exact_session(lowered.file, 1)(lowered.inputs)
    for name, value in lowered.arrays("output").items():
        assert off(found[name], value) < 1.2 * off(in_fp32[name], value) < 0.05, name


def test_the_float_graph_in_the_same_dialect(lowered: Lowered, tmp_path: Path) -> None:
    model = ir.load(lowered.recipe.folder / "model.onnx")
    for name in backends.get("tensorrt").dialect(lowered.recipe):
        BY_NAME[name](model)
    write_checked(model, tmp_path / "float.onnx")
    found = exact_session(tmp_path / "float.onnx", 1)(lowered.inputs)
    for name, value in lowered.arrays("output").items():
        assert off(found[name], value) < FLOAT_TOLERANCE[lowered.target], name
    halves = [v for v in model.graph.initializers.values() if v.dtype == ir.DataType.FLOAT16]
    assert bool(halves) is (lowered.target == "10")


def test_every_int8_product_reads_its_pairs_directly(lowered: Lowered) -> None:
    kinds = [makers for _, makers in products(lowered.graph)]
    assert kinds.count(["DequantizeLinear"] * 2) > len(kinds) / 2
    assert all(makers.count("DequantizeLinear") in (0, 2) for makers in kinds), "both operands or none"
    for node in lowered.graph.graph:
        if node.op_type == "Cast":
            front, behind = producer(node.inputs[0]), [n.op_type for n in node.outputs[0].consumers()]
            assert front is None or front.op_type != "DequantizeLinear"
            assert "QuantizeLinear" not in behind


def test_weights_are_stored_as_the_target_reads_them(lowered: Lowered) -> None:
    weights = [
        n for n in lowered.graph.graph if n.op_type == "DequantizeLinear" and n.inputs[0].const_value is not None
    ]  # type: ignore[union-attr]
    stored = [pair for pair in find_pairs(lowered.graph) if pair.source.const_value is not None]
    for node in [*weights, *(pair.dequantize for pair in stored)]:
        scale = node.inputs[1].const_value.numpy()  # type: ignore[union-attr]
        assert scale.dtype == (np.float32 if lowered.target == "8.6" else np.float16)
        readers = list(node.outputs[0].consumers())
        last = {"MatMul": 1, "Conv": 0}
        assert scale.ndim == 0 or {last[r.op_type] for r in readers} == {node.attributes["axis"].as_int()}
    assert bool(weights) is (lowered.target == "10") and bool(stored) is (lowered.target == "8.6")


def test_attention_is_int8_at_three_points_and_nothing_scales_in_between(lowered: Lowered) -> None:
    graph = lowered.graph
    softmaxes = [n for n in graph.graph if n.op_type == "Softmax"]
    assert len(softmaxes) == (2 if lowered.recipe.family == "bert" else 4)
    for softmax in softmaxes:
        scores = producer(softmax.inputs[0])
        if scores is not None and scores.op_type == "Add":  # the mask
            scores = producer(scores.inputs[0])
        assert scores is not None and scores.op_type == "MatMul", "no Mul, no Div"
        assert [producer(v).op_type for v in scores.inputs] == ["DequantizeLinear"] * 2  # type: ignore[union-attr]
        (quantize,) = softmax.outputs[0].consumers()
        assert quantize.op_type == "QuantizeLinear"
        (context,) = next(iter(quantize.outputs[0].consumers())).outputs[0].consumers()
        behind = next(iter(context.outputs[0].consumers()))
        while behind.op_type in ("Transpose", "Reshape"):
            behind = next(iter(behind.outputs[0].consumers()))
        assert behind.op_type == "QuantizeLinear"


def test_queries_keys_and_values_share_one_pair(lowered: Lowered) -> None:
    names = ("query", "key", "value") if lowered.recipe.family == "bert" else ("q_proj", "k_proj", "v_proj")
    groups: dict[str, dict[str, Any]] = {}
    for node, _ in products(lowered.graph):
        block, _, last = str(node.name).removesuffix("/MatMul").rpartition(".")
        if last in names:
            groups.setdefault(block, {})[last] = node.inputs[0]
    assert len(groups) == (2 if lowered.recipe.family == "bert" else 4)
    for block, operands in groups.items():
        reduced = operands[names[1]] is not operands[names[0]]
        assert operands[names[1]] is operands[names[2]], block
        # keys and values of SegFormer's first stages come from a sequence of their own
        assert not reduced or (lowered.recipe.family == "segformer" and "stages.3" not in block), block


def test_what_stays_float(lowered: Lowered) -> None:
    off = {q["kind"] for q in lowered.quantizers if not q["enabled"]}
    assert off == {"bert": {"embedding", "head", "local", "residual"},
                   "segformer": {"depthwise", "head", "local", "residual", "sum"}}[lowered.recipe.family]  # fmt: skip
    assert not off & {q["kind"] for q in lowered.quantizers if q["enabled"]}
    readers = {r.op_type for p in find_pairs(lowered.graph) for r in p.dequantize.outputs[0].consumers()}
    assert readers <= {"MatMul", "Conv"}


def test_what_is_written_down_is_what_the_graph_has(lowered: Lowered) -> None:
    scales = scales_of(lowered.graph)
    on = {q["name"]: q["scale"] for q in lowered.quantizers if q["enabled"]}
    assert scales.keys() == on.keys()
    for name, scale in scales.items():
        np.testing.assert_array_equal(scale, np.asarray(on[name], np.float32))


def test_the_linter_finds_no_error(lowered: Lowered) -> None:
    report = lint(lowered.file, target=lowered.target)
    assert report.errors == ()
    warnings = [(f.rule, f.nodes) for f in report.findings if f.severity == "W"]
    images = ("segformer.stages.0.patch_embeddings.proj/Conv",)  # 3 channels
    assert warnings == ([("Q30", images)] if lowered.recipe.family == "segformer" else [])


def test_the_linter_sees_the_layout_that_the_other_backends_have(exported: Exported, tmp_path: Path) -> None:
    recipe = exported("bert")
    graph = ir.load(lower(recipe, "8.6", tmp_path).file)
    hoist_above_layout(graph)
    ir.save(graph, tmp_path / "hoisted.onnx")
    assert "Q22" in {f.rule for f in lint(tmp_path / "hoisted.onnx", target="8.6").findings}


# --- lengths ---


def test_a_sequence_that_may_be_longer_than_512_keeps_attention_float(exported: Exported, tmp_path: Path) -> None:
    recipe = exported("bert")
    shapes = recipe.shapes.model_copy(update={"sequence_length": 1024})
    found = lower(recipe, "10", tmp_path, shapes=shapes)
    attention = [q for q in found.quantizers if q["kind"] in ("scores", "context")]
    assert len(attention) == 8 and not any(q["enabled"] for q in attention)
    reason = "no int8 fused attention: 1024 queries, 512 at most"
    assert {q["reason"] for q in attention} == {reason} and all(q["scale"] is None for q in attention)
    assert all("int8" not in str(n.name) for n in found.graph.graph if n.op_type == "Softmax")


def test_images_of_512_pixels_keep_attention_int8_in_the_last_stage_alone(exported: Exported) -> None:
    # The tiny model's graph with the lengths of 512×512 pixels in its attention; they are 256 to 4 here.
    graph = ir.load(exported("segformer").folder / "candidates.onnx")
    blocks = list(attention_blocks(View(graph)))
    lengths = [value.shape[2] for block in blocks if (value := block.scores.inputs[0]) is not None and value.shape]
    assert lengths == [256, 64, 16, 4], "the longest first"
    assert not keep_fused_attention(graph).modified, "of 64 pixels all stages stay"
    for block, length in zip(blocks, (16384, 4096, 1024, 256), strict=True):
        queries, keys = block.scores.inputs
        assert queries is not None and keys is not None and queries.shape is not None and keys.shape is not None
        queries.shape = ir.Shape([*queries.shape[:2], length, queries.shape[3]])
        keys.shape = ir.Shape([*keys.shape[:3], 256])  # at every stage, by the reduction of the sequence
    assert keep_fused_attention(graph).modified
    assert [block.quantized for block in attention_blocks(View(graph))] == [False, False, False, True]
    assert {why.split(": ")[1] for why in dropped(graph).values()} == {
        f"{length} queries, 512 at most" for length in (16384, 4096, 1024)
    }
    assert len(dropped(graph)) == 3 * 4


# --- residual adds ---


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("model", ["bert", "segformer"])
@pytest.mark.parametrize(
    ("residual", "kinds"), [("none", []), ("residual", ["residual"]), ("both", ["local", "residual"])]
)
def test_residual_adds(
    residual: str, kinds: list[str], model: str, target: str, exported: Exported, tmp_path: Path
) -> None:
    recipe = exported(model)
    placement = recipe.placement.model_copy(update={"residual": residual})
    found = lower(recipe, target, tmp_path, placement=placement)
    on = {q["kind"] for q in found.quantizers if q["enabled"]} & {"local", "residual"}
    assert sorted(on) == kinds
    quantized = [
        [v is not None and (maker := producer(v)) is not None and maker.op_type == "DequantizeLinear" for v in n.inputs]
        for n in found.graph.graph
        if n.op_type == "Add"
    ]
    adds = 4 if model == "bert" else 8  # two a layer
    assert [sum(inputs) for inputs in quantized if any(inputs)] == [len(kinds)] * (adds if kinds else 0)


def test_a_residual_add_shares_the_pair_of_the_layers_behind_the_same_norm(exported: Exported, tmp_path: Path) -> None:
    recipe = exported("bert")
    placement = recipe.placement.model_copy(update={"residual": "residual"})
    calibration = recipe.calibration.model_copy(update={"migration": False})
    found = lower(recipe, "10", tmp_path, placement=placement, calibration=calibration)
    shared = [p for p in find_pairs(found.graph) if "Add" in {n.op_type for n in p.dequantize.outputs[0].consumers()}]
    assert len(shared) == 4
    assert all({"Add", "MatMul"} == {n.op_type for n in p.dequantize.outputs[0].consumers()} for p in shared)


# --- without the runtime ---


def test_lowering_needs_no_runtime_and_the_engine_does(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends.get("tensorrt"), "unavailable_reason", lambda: "no GPU")
    found = lower(exported("bert"), "10", tmp_path)
    assert found.file.is_file() and stages.why_stale("lower", found.recipe) == []
    with pytest.raises(backends.BackendUnavailable, match="no GPU"):
        build.run_stage("engine", found.recipe)
    assert backends.name_of("tensorrt") == "tensorrt" and backends.name_of("auto") != "tensorrt"
    with pytest.raises(InputError, match=r"unknown backend 'tensort'\. Did you mean tensorrt"):
        backends.name_of("tensort")


def test_another_target_lowers_again(exported: Exported, tmp_path: Path) -> None:
    found = lower(exported("bert"), "10", tmp_path)
    older = found.recipe.model_copy(update={"tensorrt": found.recipe.tensorrt.model_copy(update={"target": "8.6"})})
    assert any(reason.startswith("dialect changed") for reason in stages.why_stale("lower", older))
    assert stages.why_stale("lower", found.recipe) == []
    slower = found.recipe.tensorrt.model_copy(update={"optimization_level": 1, "workspace_mib": 64})
    assert stages.why_stale("lower", found.recipe.model_copy(update={"tensorrt": slower})) == []


# --- the recipe's section ---


@pytest.mark.parametrize("value", ["8.6", 8.6, "10", 10, 10.0, "auto"])
def test_targets_are_read_as_numbers_too(value: Any) -> None:
    recipe = Recipe.load("bert", overrides={"tensorrt.target": value})
    assert recipe.tensorrt.target == str(value).removesuffix(".0")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("target", "8.5", "tensorrt.target = '8.5' is unknown"),
        ("target", True, "tensorrt.target = True is unknown"),
        ("precision", "int4", "tensorrt.precision = 'int4' is unknown. Did you mean int8"),
        ("workspace_mib", 0, "tensorrt.workspace_mib = 0"),
        ("optimization_level", 6, "tensorrt.optimization_level = 6"),
        ("optimisation_level", 3, "unknown setting 'tensorrt.optimisation_level'. Did you mean optimization_level"),
    ],
)
def test_unknown_values_are_errors(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Recipe.load("bert", overrides={f"tensorrt.{name}": value})
