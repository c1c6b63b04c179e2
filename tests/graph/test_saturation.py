"""Sums without 16-bit saturation: the arithmetic against the instruction, the graph pass, and what real kernels add."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper

from helpers.qdq_models import Graph
from helpers.usable import USABLE, saturates_here
from pipeline import backends
from pipeline.graph import BY_NAME, dropped, find_pairs, saturation
from pipeline.graph.byte_products import as_rows, byte_products
from pipeline.graph.pairs import QUANTIZER
from pipeline.graph.saturation import LIMIT, bounded_scale, may_saturate, multiply_add, neighbours, pair_sums
from pipeline.graph.saturation_risk import risks
from pipeline.judge.reference import exact_session

# --- arithmetic, against the instruction in numpy ---


def test_the_instruction_by_hand() -> None:
    u = np.array([255, 255, 1, 2], np.uint8)
    assert multiply_add(u, np.array([127, 127, 3, 4], np.int8)) == 32767 + 3 + 8, "the first pair saturates"
    assert multiply_add(u, np.array([-128, -128, 3, 4], np.int8)) == -32768 + 11
    assert multiply_add(u, np.array([127, -128, 3, 4], np.int8)) == 255 * (127 - 128) + 11, "unlike signs never do"
    assert multiply_add(u[:3], np.array([64, 64, 5], np.int8)) == 255 * 128 + 5


PAIRS = st.integers(-128, 127)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(a=PAIRS, b=PAIRS)
def test_a_pair_saturates_for_some_activations_exactly_where_its_sum_is_over_the_limit(a: int, b: int) -> None:
    codes = np.array([[[a, b]]], np.int8)
    worst = np.array([[255, 255], [255, 0], [0, 255]], np.uint8)
    exact = worst.astype(int) @ np.array([a, b])
    saturates = bool((multiply_add(worst, np.array([a, b], np.int8)) != exact).any())
    assert may_saturate(codes)[0] == (pair_sums(codes).max() > LIMIT)
    assert saturates <= bool(may_saturate(codes)[0]), "what may saturate is never missed"
    if abs(a) + abs(b) > LIMIT + 1 and a * b > 0:  # 129 · 255 > 2¹⁵ − 1, and −129 · 255 < −2¹⁵ too
        assert saturates


SHAPES = st.tuples(st.integers(1, 4), st.sampled_from([1, 4, 9]), st.integers(1, 7))
WEIGHTS = SHAPES.flatmap(
    lambda shape: arrays.arrays(np.float32, shape, elements=st.floats(-3, 3, width=32, allow_subnormal=False))
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(weight=WEIGHTS, seed=st.integers(0, 2**16))
def test_bounded_weights_never_saturate_and_keep_the_scale_where_they_need_no_other(
    weight: np.ndarray, seed: int
) -> None:
    amax = np.abs(weight).max((1, 2))
    scale = np.where(amax > 1e-6, amax / np.float32(127), np.float32(1)).astype(np.float32)
    full = np.clip(np.rint(weight / scale[:, None, None]), -127, 127).astype(np.int8)
    found = bounded_scale(weight, scale)
    codes = np.rint(weight / found[:, None, None]).astype(np.int8)
    assert not may_saturate(codes).any() and (found >= scale).all()
    assert (found <= scale * np.float32(127 * 2 / LIMIT * 1.0001)).all(), "at most 7 bits"
    needless = ~may_saturate(full)
    assert (found[needless] <= scale[needless] * np.float32(1.02)).all(), "a code may be rounded up to the limit"
    u = np.random.default_rng(seed).integers(0, 256, (8, 1, weight.shape[2])).astype(np.uint8)
    for place in range(weight.shape[1]):  # channels at one place, as the kernels add them
        w = codes[:, place]
        np.testing.assert_array_equal(multiply_add(u, w), (u.astype(np.int32) * w).sum(-1))


def test_pairs_are_neighbouring_channels_and_for_odd_numbers_also_places() -> None:
    even = np.arange(8).reshape(1, 2, 4)
    assert [(a.tolist(), b.tolist()) for a, b in neighbours(even)] == [([[0, 2, 4, 6]], [[1, 3, 5, 7]])]
    odd = np.arange(6).reshape(1, 2, 3)
    assert [(a.tolist(), b.tolist()) for a, b in neighbours(odd)] == [([[0, 3]], [[1, 4]]), ([[0, 2, 4]], [[1, 3, 5]])]
    row = np.arange(3).reshape(1, 1, 3)
    assert [(a.tolist(), b.tolist()) for a, b in neighbours(row)] == [([[0]], [[1]])]


def test_the_bound_costs_less_than_seven_bits() -> None:
    """By how much, on weights as trained ones are: heavy tails."""
    weight = (0.05 * np.random.default_rng(0).standard_t(5, (64, 1, 768))).astype(np.float32)
    amax = np.abs(weight).max((1, 2))

    def sqnr(scale: np.ndarray) -> float:
        noise = weight - np.rint(weight / scale[:, None, None]) * scale[:, None, None]
        return float(10 * np.log10(np.square(weight).sum() / np.square(noise).sum()))

    full, bounded, seven = sqnr(amax / 127), sqnr(bounded_scale(weight, amax / 127)), sqnr(amax / 64)
    assert full - bounded < 1.5 and full - seven > 5.5


# --- graphs ---


def layer(kind: str, codes: np.ndarray, *, signed: bool = False, group: int = 1, quantized: bool = False) -> bytes:
    """Returns a graph of one layer at scale 1: x → Q → DQ → product with int8 weights, and Q → DQ again if asked."""
    zero, axis = np.int8(0) if signed else np.uint8(128), 1 if kind == "MatMul" else 0
    constants = {
        "one": np.float32(1), "zero": np.asarray(zero), "weight": codes, "out": np.float32(128), "none": np.uint8(0),
        "ones": np.ones(codes.shape[axis], np.float32), "zeros": np.zeros(codes.shape[axis], np.int8),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "one", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["weight", "ones", "zeros"], ["w"], axis=axis),
    ]
    more = {} if kind == "MatMul" else {"group": group, "pads": [codes.shape[2] // 2] * 4}
    nodes.append(helper.make_node(kind, ["d", "w"], ["p" if quantized else "y"], name="product", **more))
    if quantized:
        nodes.append(helper.make_node("QuantizeLinear", ["p", "out", "none"], ["r"]))
        nodes.append(helper.make_node("DequantizeLinear", ["r", "out", "none"], ["y"]))
    shape = ["n", "m", codes.shape[0]] if kind == "MatMul" else ["n", codes.shape[1] * group, "h", "w_"]
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())


LAYERS = {
    "linear, even": ("MatMul", (16,), 1),
    "linear, odd": ("MatMul", (15,), 1),
    "1×1": ("Conv", (8, 1), 1),
    "1×1, odd": ("Conv", (7, 1), 1),
    "3×3": ("Conv", (4, 3), 1),
    "3×3, odd": ("Conv", (3, 3), 1),
    "3×3, one channel": ("Conv", (1, 3), 1),
    "depthwise 3×3": ("Conv", (1, 3), 36),
    "depthwise 5×5": ("Conv", (1, 5), 300),
}


def every_pair(kind: str, size: tuple[int, ...], group: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns weights with an output channel for every two taps of a window, 127 each, and the taps' indices [N, 2]."""
    channels, side = (size[0], 1) if kind == "MatMul" else size
    taps = channels * side * side
    pairs = np.array([(i, j) for i in range(taps) for j in range(i + 1, taps)])
    codes = np.zeros((len(pairs), taps), np.int8)
    for row, pair in zip(codes, pairs, strict=True):
        row[pair] = 127
    if group > 1:
        assert len(pairs) == group, "one output channel each"
    return (codes.T if kind == "MatMul" else codes.reshape(-1, channels, side, side)), pairs


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("quantized", [False, True], ids=["to float", "to int8"])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("backend", USABLE)
def test_kernels_saturate_no_pair_that_the_bound_does_not_know(
    backend: str, name: str, quantized: bool, signed: bool, tmp_path: Path
) -> None:
    """Every two taps of a window are the largest there are: those sums that come out wrong are among the pairs."""
    kind, size, group = LAYERS[name]
    codes, _ = every_pair(kind, size, group)
    path = tmp_path / "layer.onnx"
    path.write_bytes(layer(kind, codes, signed=signed, group=group, quantized=quantized))
    shape = (1, 8, codes.shape[0]) if kind == "MatMul" else (1, codes.shape[1] * group, 8, 8)
    x = np.full(shape, 127, np.float32)
    module = backends.get(backend)
    module.build(path, tmp_path / "engine", None)  # type: ignore[arg-type]
    found = module.load(tmp_path / "engine", 1)({"x": x})["y"]
    exact = exact_session(path, 1)({"x": x})["y"]
    inside = (slice(None),) if kind == "MatMul" else (slice(None), slice(None), slice(2, -2), slice(2, -2))
    axis = 2 if kind == "MatMul" else 1
    wrong = np.abs(np.moveaxis((found - exact)[inside], axis, 0)).reshape(codes.shape[1 if axis == 2 else 0], -1).max(1)
    wrong = wrong > (130 if quantized else 1)
    rows = as_rows(ir.from_proto(onnx.load(path)).graph.node("product"), 1, codes)
    if name.startswith("depthwise"):
        assert rows.shape[1:] == (1, 1)
        known = np.zeros(len(wrong), bool)
    else:
        known = may_saturate(rows)
    assert not (wrong & ~known).any()
    if backend == "openvino" and name in ("linear, even", "1×1", "3×3") and saturates_here(backend):
        np.testing.assert_array_equal(wrong, known)  # the kernels add exactly these


@pytest.mark.parametrize("backend", USABLE)
def test_full_weights_are_wrong_where_sums_saturate_and_bounded_ones_right_everywhere(
    backend: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    weight = np.abs(rng.standard_normal((64, 32))).astype(np.float32)
    x = (127 * rng.uniform(0.5, 1, (1, 8, 64))).astype(np.float32)
    amax, module, found = weight.max(0), backends.get(backend), {}
    for name, scale in (("full", amax / 127), ("bounded", bounded_scale(weight.T[:, None], amax / 127))):
        codes = np.rint(weight / scale).astype(np.int8)
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(layer("MatMul", codes))
        module.build(path, tmp_path / name, None)  # type: ignore[arg-type]
        exact = exact_session(path, 1)({"x": x})["y"]
        found[name] = float(np.abs(module.load(tmp_path / name, 1)({"x": x})["y"] / exact - 1).max())
        u, product = (np.rint(x) + 128).astype(np.uint8), multiply_add
        emulated = product(u[:, :, None, :], codes.T) - 128 * codes.sum(0, dtype=np.int32)
        np.testing.assert_array_equal(np.abs(emulated - exact).max() > 0, name == "full")
    assert found["bounded"] < 1e-5
    if saturates_here(backend):
        assert found["full"] > 0.1


def quantizers(model: ir.Model) -> None:
    """Names the pairs as the exporter does."""
    for pair in list(find_pairs(model)):
        for node in (pair.quantize, pair.dequantize):
            node.metadata_props[QUANTIZER] = str(pair.source.name)


def float_weights(tmp_path: Path) -> ir.Model:
    """Two layers whose weights are quantized in the graph, one behind a Transpose, a table, and a product of two."""
    g = Graph()
    rng = np.random.default_rng(1)
    scale = lambda w, axis: np.abs(w).max(tuple(i for i in range(w.ndim) if i != axis)) / 127  # noqa: E731

    def weight(name: str, value: np.ndarray, axis: int) -> str:
        s = g.constant(f"{name}_scale", scale(value, axis).astype(np.float32))
        z = g.constant(f"{name}_zero", np.zeros(value.shape[axis], np.int8))
        q = g.add("QuantizeLinear", g.constant(name, value), s, z, axis=axis)
        return g.add("DequantizeLinear", q, s, z, axis=axis)

    w = np.abs(rng.standard_normal((64, 32))).astype(np.float32)  # [N, K], all of one sign
    table = rng.standard_normal((10, 32)).astype(np.float32)
    y = g.add("MatMul", g.quantize("x", 0.03), g.add("Transpose", weight("w", w, 0), perm=[1, 0]))
    t = weight("table", table, 0)
    y = g.add("MatMul", g.quantize(y, 0.5), g.add("Transpose", weight("v", np.abs(w.T).copy(), 0), perm=[1, 0]))
    q = g.quantize(g.add("Add", y, g.constant("b", np.float32(1))), 0.04)
    y = g.add("MatMul", q, g.add("Transpose", q, perm=[1, 0]))
    y = g.add("Add", y, g.add("ReduceSum", t, keepdims=0))
    path = g.save(tmp_path / "float.onnx", {"x": [4, 32]}, {"y": y})
    model = ir.load(path)
    quantizers(model)
    return model


def test_the_pass_bounds_weights_in_products_and_leaves_products_of_activations_float(tmp_path: Path) -> None:
    model = float_weights(tmp_path)
    before = {str(p.source.name): p.scale.copy() for p in find_pairs(model)}
    assert [risk.may_saturate for risk in risks(model)] == [True, True, True]
    assert BY_NAME["saturation_free"](model).modified
    after = {str(p.source.name): p.scale for p in find_pairs(model)}
    gone = set(before) - set(after)
    assert gone == set(dropped(model)) and len(gone) == 1, "the one pair that both factors come from"
    assert (after["w"] >= before["w"]).all() and (after["w"] > before["w"]).any()
    np.testing.assert_array_equal(after["table"], before["table"])
    products = list(byte_products(model))
    assert len(products) == 2 and not any(may_saturate(p.codes).any() for p in products if p.codes is not None)
    assert not BY_NAME["saturation_free"](model).modified, "nothing is left to do"


def test_the_pass_keeps_its_promise_in_the_stored_weights(tmp_path: Path) -> None:
    model = float_weights(tmp_path)
    for name in ("saturation_free", "store_int8_weights", "unsigned_activations"):
        BY_NAME[name](model)
    assert [(risk.may_saturate, risk.worst) for risk in risks(model)] == [(False, LIMIT)] * 2


def node(op: str, weight: np.ndarray, **attributes: Any) -> ir.Node:
    values = [ir.Value(name="x"), ir.Value(name="w", const_value=ir.tensor(weight))]
    return ir.node(op, values, attributes=attributes)


@pytest.mark.parametrize(
    ("op", "shape", "attributes", "expected"),
    [
        ("MatMul", (6, 4), {}, (4, 1, 6)),
        ("MatMul", (2, 6, 4), {}, (8, 1, 6)),
        ("MatMul", (6,), {}, (1, 1, 6)),
        ("Gemm", (6, 4), {}, (4, 1, 6)),
        ("Gemm", (4, 6), {"transB": 1}, (4, 1, 6)),
        ("Conv", (8, 6, 3, 3), {}, (8, 9, 6)),
        ("Conv", (8, 3, 3, 3), {"group": 2}, (8, 9, 3)),
        ("Conv", (8, 1, 3, 3), {"group": 8}, (72, 1, 1)),
        ("Conv", (8, 1, 3, 3), {"group": 4}, (8, 9, 1)),
        ("ConvTranspose", (6, 8, 2, 2), {}, (8, 4, 6)),
        ("ConvTranspose", (6, 4, 2, 2), {"group": 2}, (8, 4, 3)),
    ],
)
def test_rows_have_output_channels_places_and_input_channels(
    op: str, shape: tuple[int, ...], attributes: dict[str, int], expected: tuple[int, ...]
) -> None:
    weight = np.arange(int(np.prod(shape))).reshape(shape)
    rows = as_rows(node(op, weight, **attributes), 1, weight)
    assert rows.shape == expected and sorted(rows.reshape(-1)) == list(range(weight.size))


def test_rows_of_a_convolution_are_its_windows() -> None:
    weight = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    rows = as_rows(node("Conv", weight), 1, weight)
    assert rows[1, 3].tolist() == weight[1, :, 1, 1].tolist()


def test_seven_bits_are_enough_for_any_weights() -> None:
    assert not may_saturate(np.full((1, 1, 8), 64, np.int8)).any()
    assert may_saturate(np.full((1, 1, 8), 65, np.int8)).all()
    assert saturation.LIMIT == 128
