"""Embedding tables in int8: the graph pass, and tiny BERTs whose engines keep their tables in int8."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from calibration.arithmetic import scale_of
from helpers.onnx_text import normal, operators, parse, run, same_after
from pipeline import backends
from pipeline.graph import BY_NAME, find_pairs, set_scales
from pipeline.graph.int8_rows import gather_int8_rows
from pipeline.graph.int8_weights import store_int8_weights
from pipeline.graph.passes import Result
from pipeline.judge.reference import exact_session
from pipeline.recipe import Recipe
from pipeline.stages import build

BACKENDS = ("openvino", "onnxruntime")
TABLES = [f"bert.embeddings.{name}_embeddings" for name in ("word", "position", "token_type")]

# --- the pass ---

LOOKUP = """
agraph (int64[N, S] ids) => (float[N, S, 5] y) {
  w_q = QuantizeLinear<axis = 0>(weight, s, z)
  w = DequantizeLinear<axis = 0>(w_q, s, z)
  g = Gather<axis = 0>(w, ids)
  y = Relu(g)
}"""
IDS = np.array([[0, 6, 3], [3, 2, 1]])


def rows(count: int = 7, *width: int) -> dict[str, Any]:
    """Returns a float table of rows of unlike size, the third all zeros, with scales and zero points."""
    weight = normal(count, *(width or (5,)))
    weight *= np.logspace(-3, 3, count, dtype=np.float32).reshape(-1, *(1,) * (weight.ndim - 1))
    weight[2 % count] = 0 if count > 1 else weight[0]
    scale = scale_of(np.abs(weight).reshape(count, -1).max(1)).reshape(-1)
    return {"weight": weight, "s": scale, "z": np.zeros(count, np.int8)}


def stored(text: str = LOOKUP, **constants: Any) -> ir.Model:
    model = parse(text, **(constants or rows()))
    store_int8_weights(model)
    return model


def constants_of(model: ir.Model) -> dict[str, tuple[ir.DataType | None, tuple[int, ...]]]:
    return {str(n): (v.dtype, v.const_value.numpy().shape) for n, v in model.graph.initializers.items()}  # type: ignore[union-attr]


def test_only_the_rows_that_are_read_are_dequantized() -> None:
    model = stored()
    assert operators(model) == ["DequantizeLinear", "Gather", "Relu"]
    assert same_after(gather_int8_rows, model, ids=IDS)
    assert operators(model) == ["Gather", "Cast", "Gather", "Mul", "Relu"]
    assert constants_of(model) == {
        "w.weight_int8": (ir.DataType.INT8, (7, 5)),
        "w.weight_scale": (ir.DataType.FLOAT, (7, 1)),
    }
    names = [str(node.name) for node in model.graph]
    assert names == ["g/int8", "g/Cast", "g/scale", "g/Mul", "y"]
    assert not gather_int8_rows(model).modified, "the second time there is nothing to do"


def test_it_computes_the_quantized_rows() -> None:
    constants = rows()
    model = stored(LOOKUP, **constants)
    gather_int8_rows(model)
    scale = constants["s"][:, None]
    expected = np.clip(np.rint(constants["weight"] / scale), -128, 127) * scale
    np.testing.assert_array_equal(run(model, ids=IDS)[0], np.maximum(expected, 0)[IDS])


@pytest.mark.parametrize("width", [(), (2, 3)], ids=["vector", "tensor"])
@pytest.mark.parametrize("ids", [np.array(2), np.array([-1, 0]), np.array([[[1], [2]]])], ids=["one", "back", "three"])
def test_rows_and_ids_of_any_rank(width: tuple[int, ...], ids: np.ndarray) -> None:
    table = rows(7, *width) if width else {k: v[:, 0] if v.ndim > 1 else v for k, v in rows().items()}
    shape = ", ".join(map(str, ids.shape))
    out = ", ".join(map(str, (*ids.shape, *width)))
    text = LOOKUP.replace("[N, S]", f"[{shape}]" if shape else "").replace("[N, S, 5]", f"[{out}]" if out else "")
    model = stored(text, **table)
    assert same_after(gather_int8_rows, model, ids=ids)
    assert "DequantizeLinear" not in operators(model)


def test_ids_that_the_graph_computes() -> None:
    text = """
agraph (int64[N, S] ids) => (float[1, S, 5] y) {
  length = Shape<start = 1, end = 2>(ids)
  some = Slice(positions, zero, length, one)
  w_q = QuantizeLinear<axis = 0>(weight, s, z)
  w = DequantizeLinear<axis = 0>(w_q, s, z)
  g = Gather(w, some)
  y = Relu(g)
}"""
    fixed = {"positions": np.arange(7)[None], "zero": np.array([0]), "one": np.array([1])}
    model = stored(text, **rows(), **fixed)
    assert same_after(gather_int8_rows, model, ids=IDS)
    assert "DequantizeLinear" not in operators(model)


def test_a_table_of_one_row_has_a_scalar_scale() -> None:
    model = parse(LOOKUP, **rows(1))
    set_scales(model, {"w": scale_of([3.0])})
    store_int8_weights(model)
    assert same_after(gather_int8_rows, model, ids=np.zeros((2, 3), np.int64))
    assert constants_of(model)["w.weight_scale"] == (ir.DataType.FLOAT, (1, 1))


def test_a_product_with_the_same_table_keeps_its_own_dequantization() -> None:
    text = """
agraph (int64[S] ids) => (float[S, 7] y) {
  w_q = QuantizeLinear<axis = 0>(weight, s, z)
  w = DequantizeLinear<axis = 0>(w_q, s, z)
  t = Transpose<perm = [1, 0]>(w)
  g = Gather(w, ids)
  y = MatMul(g, t)
}"""
    model = stored(text, **rows())
    assert same_after(gather_int8_rows, model, ids=IDS[0])
    assert sorted(operators(model)) == ["Cast", "DequantizeLinear", "Gather", "Gather", "MatMul", "Mul", "Transpose"]
    assert sum(kind == ir.DataType.INT8 and len(shape) == 2 for kind, shape in constants_of(model).values()) == 1


def test_two_lookups_in_one_table_share_it() -> None:
    text = LOOKUP.replace("y = Relu(g)", "h = Gather(w, other)  y = Add(g, h)")
    model = stored(text, **rows(), other=np.array([[4]]))
    assert same_after(gather_int8_rows, model, ids=IDS)
    assert operators(model).count("Gather") == 4 and "DequantizeLinear" not in operators(model)
    assert {"w.weight_int8", "w.weight_scale", "other"} == set(model.graph.initializers)


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("w = DequantizeLinear<axis = 0>(weight, s, z)  g = Gather<axis = 1>(w, ids)  y = Relu(g)", {}),
        ("w = DequantizeLinear<axis = 1>(weight, s, z)  g = Gather(w, ids)  y = Relu(g)", {}),
        (
            "w = DequantizeLinear<axis = 0>(weight, s, z)  g = Gather(w, ids)  y = Relu(g)",
            {"z": np.full(7, 3, np.int8)},
        ),
        ("w = DequantizeLinear<axis = 0>(weight, s, z)  y = Gather(w, ids)", {}),
        (
            "w = DequantizeLinear<axis = 0>(weight, s, z)  g = Gather(w, ids)  y = Relu(g)",
            {"weight": np.arange(49, dtype=np.uint8).reshape(7, 7), "z": np.zeros(7, np.uint8)},
        ),
        ("w = DequantizeLinear<axis = 0>(weight, s, z)  u = Neg(w)  g = Gather(u, ids)  y = Relu(g)", {}),
    ],
    ids=["columns", "a-scale-a-column", "zero-point", "graph-output", "unsigned", "not-at-once"],
)
def test_lookups_that_stay(body: str, constants: dict[str, np.ndarray]) -> None:
    table = {"weight": np.arange(-24, 25, dtype=np.int8).reshape(7, 7), **{k: rows()[k] for k in "sz"}, **constants}
    model = parse(f"agraph (int64[3] ids) => (float[A, B] y) {{ {body} }}", **table)
    before = operators(model)
    assert not same_after(gather_int8_rows, model, ids=IDS[0]) and operators(model) == before


def test_float_tables_and_activations_are_left_alone() -> None:
    text = """
agraph (float[7, 5] x, int64[S] ids) => (float[S, 5] y) {
  a_q = QuantizeLinear(x, s, z)
  a = DequantizeLinear(a_q, s, z)
  g = Gather(a, ids)
  h = Gather(weight, ids)
  y = Add(g, h)
}"""
    model = parse(text, weight=rows()["weight"], s=np.float32(0.1), z=np.int8(0))
    before = operators(model)
    assert not gather_int8_rows(model).modified and operators(model) == before


# --- in the dialects, on a tiny BERT ---

Exported = Callable[[str], Recipe]


@pytest.fixture(scope="module", params=BACKENDS)
def folder(request: pytest.FixtureRequest, built: Exported) -> Path:
    """Returns <backend>/ of a tiny BERT after `lower` and `engine`."""
    if (reason := backends.get(request.param).unavailable_reason()) is not None:
        pytest.skip(reason)
    return built("bert").folder / request.param


def engine(recipe: Recipe, backend: str, root: Path, **overrides: Any) -> Path:
    if (reason := backends.get(backend).unavailable_reason()) is not None:
        pytest.skip(reason)
    folder = root / backend
    shutil.copytree(recipe.folder, folder)
    recipe = recipe.model_copy(update={"folder": folder, "backend": backend, **overrides})
    for stage in ("lower", "engine"):
        build.run_stage(stage, recipe)
    return folder / backend


def inputs(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder.parent / "reference.npz", allow_pickle=False) as reference:
        return {k.removeprefix("input/"): reference[k] for k in reference.files if k.startswith("input/")}


def large_floats(path: Path) -> list[str]:
    """Returns the float constants of more than one number a row, layer norms and biases aside."""
    found = onnx.load(path).graph.initializer
    return [t.name for t in found if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) > 1 and t.dims[-1] > 1]


def test_every_table_is_int8_and_its_dequantization_behind_the_lookup(folder: Path) -> None:
    proto = onnx.load(folder / "model.qdq.onnx")
    kinds = {t.name: t.data_type for t in proto.graph.initializer}
    for table in TABLES:
        assert kinds[f"{table}.weight_int8"] == onnx.TensorProto.INT8
        assert kinds[f"{table}.weight_scale"] == onnx.TensorProto.FLOAT
        readers = [n.op_type for n in proto.graph.node if f"{table}.weight_int8" in n.input]
        assert readers == ["Gather"]
    assert [n for n in large_floats(folder / "model.qdq.onnx") if "embeddings" in n] == []


def test_the_zeros_of_the_padding_token_stay_zeros(folder: Path) -> None:
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(folder / "model.qdq.onnx").graph.initializer}
    table, scale = stored[f"{TABLES[0]}.weight_int8"], stored[f"{TABLES[0]}.weight_scale"]
    assert not table[0].any() and table[1:].any(1).all(), "transformers initializes the padding token with zeros"
    assert scale[0] == 1 and (scale > 0).all() and np.isfinite(scale).all()
    assert (np.abs(table[1:].astype(int)).max(1) == 127).all(), "each row fills its own range"


def test_the_graph_is_bit_identical_without_the_pass(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from pipeline.lowering import Candidates
    from pipeline.lowering.selection import choice_of
    from pipeline.run import Run

    run = Run.of(Recipe.load("bert", overrides={"folder": str(folder.parent), "backend": folder.name}))
    monkeypatch.setitem(BY_NAME, "gather_int8_rows", lambda graph: Result(graph, modified=False))
    plain = Candidates(run).lower(choice_of(run)).graph
    assert sum(n.op_type == "DequantizeLinear" and "embeddings" in str(n.name) for n in plain.graph) == len(TABLES)
    ir.save(plain, tmp_path / "plain.onnx")
    feeds = inputs(folder)
    expected, found = (exact_session(path, 1)(feeds) for path in (tmp_path / "plain.onnx", folder / "model.qdq.onnx"))
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_the_engine_computes_the_exact_graph(folder: Path) -> None:
    record = json.loads((folder / "engine.json").read_text(encoding="utf-8"))
    assert all(row["passed"] for row in record["parity"]["outputs"])
    feeds = inputs(folder)
    exact = exact_session(folder / "model.qdq.onnx", 1)(feeds)
    found = backends.get(folder.name).load(folder, 1)(feeds)
    for name, value in exact.items():
        difference = np.square(found[name] - value).sum() / np.square(value).sum()
        assert difference < 10**-2.5, name  # 25 dB: roundings that fall to the other side, a layer later


def test_the_engine_file_holds_the_tables_once_and_in_int8(folder: Path) -> None:
    stored = list(onnx.load(folder / "model.qdq.onnx").graph.initializer)
    weights = sum(len(t.raw_data) for t in stored)
    if folder.name == "openvino":
        size = (folder / "model.bin").stat().st_size
    else:
        engine = onnx.load(folder / "model.ort.onnx").graph
        size = sum(len(t.raw_data) for t in engine.initializer)
        read = {name: node.op_type for node in engine.node for name in node.input}
        assert all(read[f"{table}.weight_int8"] == "Gather" for table in TABLES)
    tables = sum(len(t.raw_data) for t in stored if t.name.removesuffix(".weight_int8") in TABLES)
    assert size < weights + 2 * tables, "one float table more would be 4 times its int8"


@pytest.mark.parametrize("table", TABLES)
def test_the_export_compares_every_row_with_pytorch(exported: Exported, table: str, tmp_path: Path) -> None:
    from calibration import CalibrationTable
    from pipeline.graph.build import initializer
    from pipeline.model import loading
    from pipeline.model.operator_parity import compare_operators
    from pipeline.quantization import apply_amax

    recipe = exported("bert")
    records = CalibrationTable.read(recipe.folder / "calibration.json").records
    model = loading.quantized_model(loading.open_source(recipe), recipe)
    apply_amax(model, {n: r.amax_for("max") for n, r in records.items()})  # type: ignore[misc]
    graph = ir.load(recipe.folder / "candidates.onnx")
    (pair,) = (p for p in find_pairs(graph) if p.names == (f"{table}._weight_quantizer",))
    scale = np.array(pair.scale)
    scale[-1] *= np.float32(1 + 2**-22)  # of a row that the tokens below do not ask for
    initializer(graph, f"{table}._weight_quantizer.scale", scale)
    feeds = {name: np.zeros((1, 8), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
    results = {
        r.site: r
        for r in compare_operators(model, graph, {**feeds, "attention_mask": feeds["input_ids"] + 1}, tmp_path)
    }
    width = pair.source.const_value.numpy().shape[1]  # type: ignore[union-attr]
    assert [site for site, r in results.items() if not r.equal] == [table]
    assert 0 < results[table].beyond <= width and results[table].elements == scale.size * width


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_placement_can_leave_them_float(exported: Exported, backend: str, tmp_path: Path) -> None:
    recipe = exported("bert")
    placement = recipe.placement.model_copy(update={"disable": ("*embeddings*",)})
    folder = engine(recipe, backend, tmp_path, placement=placement)
    decisions = json.loads((folder / "placement.json").read_text(encoding="utf-8"))["quantizers"]
    off = {d["name"]: d["reason"] for d in decisions if d["kind"] == "embedding"}
    assert off == {f"{table}._weight_quantizer": "placement.disable: *embeddings*" for table in TABLES}
    assert "linear" in {d["kind"] for d in decisions if d["enabled"]}
    assert sorted(n for n in large_floats(folder / "model.qdq.onnx") if "embeddings" in n) == sorted(
        f"{table}.weight" for table in TABLES
    )
    assert not any(
        "embeddings" in name for pair in find_pairs(ir.load(folder / "model.qdq.onnx")) for name in pair.names
    )
