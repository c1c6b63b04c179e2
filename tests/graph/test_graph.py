"""Graph passes: ONNX text in, expected operators out, and outputs bit-identical where the pass promises exactness."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.arithmetic import Grid, scale_of
from helpers.onnx_text import normal, operators, parse, run, same_after
from pipeline.graph import BY_NAME, apply, find_pairs, keep_pairs, set_scales
from pipeline.graph.fold import fold_transposed_weights
from pipeline.graph.hoist import hoist_above_layout
from pipeline.graph.int8_weights import store_int8_weights
from pipeline.graph.merge import merge_equal_pairs
from pipeline.graph.pairs import QUANTIZER
from pipeline.graph.passes import Result
from pipeline.graph.tidy import SCOPES, tidy
from pipeline.graph.unsigned import unsigned_activations
from pipeline.recipe import Recipe

Z = np.int8(0)


# --- find, keep, scale ---

TWO_LINEARS = """
agraph (float[N, 4] x) => (float[N, 2] y) {
  a_q = QuantizeLinear(x, s1, z)
  a = DequantizeLinear(a_q, s1, z)
  h = MatMul(a, w1)
  b_q = QuantizeLinear(h, s2, z)
  b = DequantizeLinear(b_q, s2, z)
  y = MatMul(b, w2)
}"""


def two_linears() -> ir.Model:
    constants = {"w1": normal(4, 3), "w2": normal(3, 2), "s1": np.float32(0.02), "s2": np.float32(0.05), "z": Z}
    return parse(TWO_LINEARS, **constants)


def test_pairs_are_found_with_names_sources_and_scales() -> None:
    a, b = find_pairs(two_linears())
    assert (a.names, a.source.name, a.scale, a.axis) == (("a",), "x", np.float32(0.02), None)
    assert (b.names, b.source.name, b.zero_point.dtype) == (("b",), "h", np.int8)


def test_keep_pairs_removes_what_is_off() -> None:
    model = two_linears()
    assert keep_pairs(model, {"b"}).modified
    assert operators(model) == ["MatMul", "QuantizeLinear", "DequantizeLinear", "MatMul"]
    assert not keep_pairs(model, {"b"}).modified, "nothing left to remove"
    assert keep_pairs(model, set()).modified and operators(model) == ["MatMul", "MatMul"]
    assert sorted(model.graph.initializers) == ["w1", "w2"], "scales that nobody reads are gone"
    x = normal(5, 4)
    weights = [model.graph.initializers[w].const_value.numpy() for w in ("w1", "w2")]  # type: ignore[union-attr]
    np.testing.assert_allclose(run(model, x=x)[0], x @ weights[0] @ weights[1], rtol=1e-5, atol=1e-6)


def test_a_merged_pair_stays_while_one_of_its_quantizers_is_on() -> None:
    model = two_linears()
    for pair in find_pairs(model):
        if pair.names == ("a",):
            for node in (pair.quantize, pair.dequantize):
                node.metadata_props[QUANTIZER] = "a a2"
    keep_pairs(model, {"a2"})
    assert [pair.names for pair in find_pairs(model)] == [("a", "a2")]


def test_set_scales_gives_every_pair_its_own_even_where_one_was_shared() -> None:
    text = TWO_LINEARS.replace("s2", "s1")
    model = parse(text, w1=normal(4, 3), w2=normal(3, 2), s1=np.float32(1), z=Z)
    set_scales(model, {"a": np.float32(0.25), "b": np.float32(0.5)})
    assert {pair.names[0]: float(pair.scale) for pair in find_pairs(model)} == {"a": 0.25, "b": 0.5}
    assert {"a.scale", "a.zero_point", "b.scale", "b.zero_point", "w1", "w2"} == set(model.graph.initializers)
    assert all(p.dequantize.inputs[1] is p.quantize.inputs[1] for p in find_pairs(model))


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ({"a": np.float32(1)}, "no scale for 1 quantizers, the first is b"),
        ({"a": np.float32(1), "b": np.float32(0)}, "b: a scale must be positive"),
        ({"a": np.float32(np.nan), "b": np.float32(1)}, "a: a scale must be positive"),
        ({"a": np.float32(np.inf), "b": np.float32(1)}, "a: a scale must be positive"),
        ({"a": np.float32(-1), "b": np.float32(1)}, "a: a scale must be positive"),
    ],
)
def test_a_scale_that_cannot_be_is_refused(scales: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        set_scales(two_linears(), scales)


@pytest.mark.parametrize(
    ("amax", "expected"),
    [(127.0, 1.0), ([254.0], 2.0), (0.0, 1.0), ([127.0, 0.0, 1.27], [1.0, 1.0, 0.01]), (1e-45, 1.0)],
)
def test_amax_becomes_a_scale(amax: Any, expected: Any) -> None:
    scale = scale_of(amax)
    assert scale.dtype == np.float32 and scale.shape == np.shape(expected)
    np.testing.assert_allclose(scale, expected, rtol=1e-6)


# --- hoist ---


@pytest.mark.parametrize(
    ("layout", "shape", "constants"),
    [
        ("t = Transpose<perm = [1, 0, 2]>(h)", "[4, N, 6]", {}),
        ("t = Reshape(h, to)", "[N, 24]", {"to": np.array([-1, 24])}),
        ("t = Flatten(h)", "[N, 24]", {}),
        ("t = Unsqueeze(h, at)", "[N, 1, 4, 6]", {"at": np.array([1])}),
        ("u = Reshape(h, to) t = Transpose<perm = [0, 2, 1]>(u)", "[N, 12, 2]", {"to": np.array([0, 2, 12])}),
    ],
    ids=["transpose", "reshape", "flatten", "unsqueeze", "reshape-transpose"],
)
def test_pairs_move_above_layout_operators(layout: str, shape: str, constants: dict[str, np.ndarray]) -> None:
    text = f"""
agraph (float[N, 4, 6] x) => (float{shape} y) {{
  h = Relu(x)
  {layout}
  a_q = QuantizeLinear(t, s, z)
  a = DequantizeLinear(a_q, s, z)
  y = Neg(a)
}}"""
    model = parse(text, s=np.float32(0.01), z=Z, **constants)
    moved = [op for op in operators(model) if op in ("Transpose", "Reshape", "Flatten", "Unsqueeze")]
    assert same_after(hoist_above_layout, model, x=normal(3, 4, 6))
    assert operators(model) == ["Relu", "QuantizeLinear", "DequantizeLinear", *moved, "Neg"]
    assert [p.names for p in find_pairs(model)] == [("a",)]
    assert not hoist_above_layout(model).modified, "the second time there is nothing to do"


def test_other_readers_of_a_layout_operator_keep_the_float_tensor() -> None:
    text = """
agraph (float[4, 6] x) => (float[6, 4] y, float[6, 4] w) {
  h = Relu(x)
  t = Transpose<perm = [1, 0]>(h)
  a_q = QuantizeLinear(t, s, z)
  a = DequantizeLinear(a_q, s, z)
  y = Neg(a)
  w = Exp(t)
}"""
    model = parse(text, s=np.float32(0.1), z=Z)
    assert same_after(hoist_above_layout, model, x=normal(4, 6))
    assert sorted(operators(model)) == sorted(
        ["Relu", "QuantizeLinear", "DequantizeLinear", "Transpose", "Transpose", "Neg", "Exp"]
    )
    names = [node.name for node in model.graph]
    assert len(set(names)) == len(names)


def test_two_quantizers_behind_one_transpose_both_move() -> None:
    text = """
agraph (float[4, 6] x) => (float[6, 4] y) {
  h = Relu(x)
  t = Transpose<perm = [1, 0]>(h)
  a_q = QuantizeLinear(t, s1, z)
  a = DequantizeLinear(a_q, s1, z)
  b_q = QuantizeLinear(t, s2, z)
  b = DequantizeLinear(b_q, s2, z)
  y = Add(a, b)
}"""
    model = parse(text, s1=np.float32(0.1), s2=np.float32(0.03), z=Z)
    assert same_after(hoist_above_layout, model, x=normal(4, 6))
    assert {p.source.name for p in find_pairs(model)} == {"h"}
    assert operators(model).count("Transpose") == 2


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("t = Transpose<perm = [1, 0]>(x) a_q = QuantizeLinear<axis = 0>(t, sc, zc) "
         "a = DequantizeLinear<axis = 0>(a_q, sc, zc) y = Neg(a)", "the channel axis would move"),
        ("t = Relu(x) a_q = QuantizeLinear(t, s, z) a = DequantizeLinear(a_q, s, z) u = Neg(a) "
         "y = Transpose<perm = [1, 0]>(u)", "Relu changes values"),
        ("a_q = QuantizeLinear(x, s, z) a = DequantizeLinear(a_q, s, z) u = Neg(a) "
         "y = Transpose<perm = [1, 0]>(u)", "nothing is above a graph input"),
    ],
    ids=["per-channel", "not-layout", "graph-input"],
)  # fmt: skip
def test_pairs_that_must_stay(body: str, why: str) -> None:
    constants = {"s": np.float32(0.1), "z": Z}
    if "sc" in body:
        constants = {"sc": np.full(4, 0.1, np.float32), "zc": np.zeros(4, np.int8)}  # type: ignore[dict-item]
    model = parse(f"agraph (float[6, 4] x) => (float[4, 6] y) {{ {body} }}", **constants)
    before = operators(model)
    assert not hoist_above_layout(model).modified, why
    assert operators(model) == before


def test_a_layout_operator_whose_result_is_a_graph_output_stays() -> None:
    text = """
agraph (float[4, 6] x) => (float[6, 4] t, float[6, 4] y) {
  t = Transpose<perm = [1, 0]>(x)
  a_q = QuantizeLinear(t, s, z)
  a = DequantizeLinear(a_q, s, z)
  y = Neg(a)
}"""
    model = parse(text, s=np.float32(0.1), z=Z)
    assert not same_after(hoist_above_layout, model, x=normal(4, 6))


# --- merge ---


def fork(scale_b: str = "s1", zero_b: str = "z1") -> ir.Model:
    text = f"""
agraph (float[N, 4] x) => (float[N, 4] y) {{
  a_q = QuantizeLinear(x, s1, z1)
  a = DequantizeLinear(a_q, s1, z1)
  b_q = QuantizeLinear(x, {scale_b}, {zero_b})
  b = DequantizeLinear(b_q, {scale_b}, {zero_b})
  n = Neg(b)
  e = Exp(n)
  y = Add(a, e)
}}"""
    constants = {"s1": np.float32(0.1), "s2": np.float32(0.2), "s1b": np.float32(0.1), "z1": Z, "z2": np.int8(3)}
    used = {name: value for name, value in constants.items() if f"{name}," in text or f"{name})" in text}
    return parse(text, **used)


def test_equal_pairs_on_one_tensor_become_one() -> None:
    model = fork("s1b")  # another initializer of the same value
    assert same_after(merge_equal_pairs, model, x=normal(3, 4))
    assert operators(model) == ["QuantizeLinear", "DequantizeLinear", "Neg", "Exp", "Add"]
    assert [p.names for p in find_pairs(model)] == [("a", "b")]
    assert not merge_equal_pairs(model).modified


@pytest.mark.parametrize(("scale", "zero"), [("s2", "z1"), ("s1", "z2")], ids=["scale", "zero-point"])
def test_pairs_that_differ_stay_apart(scale: str, zero: str) -> None:
    model = fork(scale, zero)
    assert not same_after(merge_equal_pairs, model, x=normal(3, 4))
    assert operators(model).count("QuantizeLinear") == 2


def test_equal_pairs_on_two_tensors_stay_apart() -> None:
    model = two_linears()
    set_scales(model, {"a": np.float32(0.1), "b": np.float32(0.1)})
    assert not merge_equal_pairs(model).modified


# --- int8 weights ---

LINEAR = """
agraph (float[N, 5] x) => (float[N, 3] y) {
  w_q = QuantizeLinear<axis = 0>(weight, s, z)
  w = DequantizeLinear<axis = 0>(w_q, s, z)
  t = Transpose<perm = [1, 0]>(w)
  y = MatMul(x, t)
}"""


def per_channel(weight: np.ndarray) -> dict[str, np.ndarray]:
    scale = np.abs(weight).reshape(len(weight), -1).max(1) / np.float32(127)
    return {"weight": weight, "s": scale, "z": np.zeros(len(weight), np.int8)}


def test_a_linear_weight_is_stored_as_int8_in_the_layout_of_its_product() -> None:
    weight = normal(3, 5)
    model = parse(LINEAR, **per_channel(weight))
    assert same_after(store_int8_weights, model, x=normal(4, 5))
    assert operators(model) == ["DequantizeLinear", "MatMul"]
    (stored,) = (v for v in model.graph.initializers.values() if v.name == "w.weight_int8")
    assert stored.const_value is not None and stored.const_value.dtype == ir.DataType.INT8
    assert stored.const_value.shape.numpy() == (5, 3)
    assert next(iter(model.graph)).attributes["axis"].as_int() == 1
    assert "weight" not in model.graph.initializers, "the float weight is gone"


def test_a_weight_of_one_channel_has_one_scale() -> None:
    weight = normal(1, 5)
    model = parse(LINEAR.replace("N, 3", "N, 1"), **per_channel(weight))
    set_scales(model, {"w": scale_of(np.abs(weight).max(1))})
    x = normal(4, 5)
    assert same_after(store_int8_weights, model, x=x)
    scale = np.abs(weight).max() / np.float32(127)
    np.testing.assert_allclose(run(model, x=x)[0], x @ (np.rint(weight / scale) * scale).T, rtol=1e-5, atol=1e-6)


def test_a_convolution_weight_keeps_its_layout() -> None:
    text = """
agraph (float[N, 2, 6, 6] x) => (float[N, 3, 4, 4] y) {
  w_q = QuantizeLinear<axis = 0>(weight, s, z)
  w = DequantizeLinear<axis = 0>(w_q, s, z)
  y = Conv(x, w)
}"""
    model = parse(text, **per_channel(normal(3, 2, 3, 3)))
    assert same_after(store_int8_weights, model, x=normal(2, 2, 6, 6))
    assert operators(model) == ["DequantizeLinear", "Conv"]
    assert next(iter(model.graph)).attributes["axis"].as_int() == 0


def test_a_weight_with_two_readers_keeps_its_transpose() -> None:
    text = """
agraph (float[N, 3] x) => (float[N, 3] y) {
  w_q = QuantizeLinear<axis = 0>(weight, s, z)
  w = DequantizeLinear<axis = 0>(w_q, s, z)
  t = Transpose<perm = [1, 0]>(w)
  u = MatMul(x, t)
  y = MatMul(u, w)
}"""
    model = parse(text, **per_channel(normal(3, 3)))
    assert same_after(store_int8_weights, model, x=normal(2, 3))
    assert operators(model) == ["DequantizeLinear", "Transpose", "MatMul", "MatMul"]


def test_one_weight_behind_two_quantizers_is_stored_twice() -> None:
    text = """
agraph (float[N, 3] x) => (float[N, 4] y) {
  a_q = QuantizeLinear(weight, s1, z)
  a = DequantizeLinear(a_q, s1, z)
  b_q = QuantizeLinear(weight, s2, z)
  b = DequantizeLinear(b_q, s2, z)
  u = MatMul(x, a)
  v = MatMul(x, b)
  y = Add(u, v)
}"""
    model = parse(text, weight=normal(3, 4), s1=np.float32(0.02), s2=np.float32(0.05), z=Z)
    assert same_after(store_int8_weights, model, x=normal(2, 3))
    assert {"a.weight_int8", "b.weight_int8"} <= set(model.graph.initializers)


def test_activations_are_not_stored() -> None:
    model = two_linears()
    assert not store_int8_weights(model).modified and operators(model).count("QuantizeLinear") == 2


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-50, 50, width=32), min_size=4, max_size=40),
    st.floats(2.0**-10, 1, width=32),
)
def test_stored_bytes_are_those_of_quantize_linear(values: list[float], scale: float) -> None:
    x, s = np.array(values, np.float32), np.float32(scale)
    x = np.concatenate([x, (np.arange(-3, 3, dtype=np.float32) + np.float32(0.5)) * s])  # boundaries
    model = parse("agraph (float[N] x) => (int8[N] q) { q = QuantizeLinear(x, s, z) }", s=s, z=Z)
    np.testing.assert_array_equal(Grid(np.asarray(s)).quantize(x), run(model, x=x)[0])


# --- unsigned activations ---


def test_activations_become_unsigned_around_128() -> None:
    model = two_linears()
    x = np.concatenate([normal(50, 4), np.full((1, 4), 1e4, np.float32), np.full((1, 4), -1e4, np.float32)])
    assert same_after(unsigned_activations, model, x=x)
    assert {(p.zero_point.dtype.name, int(p.zero_point)) for p in find_pairs(model)} == {("uint8", 128)}
    assert not unsigned_activations(model).modified


def test_weights_and_channels_stay_signed() -> None:
    model = parse(LINEAR, **per_channel(normal(3, 5)))
    assert not unsigned_activations(model).modified
    text = LINEAR.replace("<axis = 0>", "")
    model = parse(text, weight=normal(3, 5), s=np.float32(0.01), z=Z)
    assert not unsigned_activations(model).modified, "a weight with one scale is still a weight"


# --- fold ---


def test_a_transposed_float_weight_is_stored_transposed() -> None:
    text = "agraph (float[N, 5] x) => (float[N, 3] y) { t = Transpose<perm = [1, 0]>(w) y = MatMul(x, t) }"
    model = parse(text, w=normal(3, 5))
    assert same_after(fold_transposed_weights, model, x=normal(2, 5))
    assert operators(model) == ["MatMul"] and list(model.graph.initializers) == ["w.transposed"]


@pytest.mark.parametrize(
    ("text", "constants"),
    [
        (LINEAR, per_channel(normal(3, 5))),
        ("agraph (float[5, 3] x) => (float[3, 5] y) { t = Transpose<perm = [1, 0]>(x) y = Neg(t) }", {}),
        ("agraph (float[5, 3] x) => (float[3, 5] t) { t = Transpose<perm = [1, 0]>(w) n = Neg(x) }",
         {"w": normal(5, 3)}),
    ],
    ids=["behind-a-pair", "activation", "graph-output"],
)  # fmt: skip
def test_other_transposes_stay(text: str, constants: dict[str, np.ndarray]) -> None:
    model = parse(text, **constants)
    assert not fold_transposed_weights(model).modified
    assert "Transpose" in operators(model)


# --- the backends' dialects ---


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_whole_dialect_is_exact(backend: str) -> None:
    from pipeline import backends

    text = """
agraph (float[N, 4, 6] x) => (float[N, 4, 4] y) {
  h = Relu(x)
  a_q = QuantizeLinear(h, s1, z)
  a = DequantizeLinear(a_q, s1, z)
  w_q = QuantizeLinear<axis = 0>(weight, s, zw)
  w = DequantizeLinear<axis = 0>(w_q, s, zw)
  wt = Transpose<perm = [1, 0]>(w)
  q = MatMul(a, wt)
  t = Transpose<perm = [0, 2, 1]>(q)
  b_q = QuantizeLinear(q, s2, z)
  b = DequantizeLinear(b_q, s2, z)
  c_q = QuantizeLinear(t, s2, z)
  c = DequantizeLinear(c_q, s2, z)
  y = MatMul(b, c)
}"""
    weight = per_channel(normal(6, 6))
    constants = {"weight": weight["weight"], "s": weight["s"], "zw": weight["z"]}
    model = parse(text, **constants, s1=np.float32(0.02), s2=np.float32(0.03), z=Z)

    def dialect(graph: ir.Model) -> Result:
        names = backends.get(backend).dialect(Recipe.load("bert", overrides={"lowering.any_cpu": False}))
        return Result(graph, bool(apply(graph, names)))

    assert same_after(dialect, model, x=normal(3, 4, 6))
    assert operators(model).count("QuantizeLinear") == 2, "b and c share one pair above the transpose"
    sources = [id(pair.source) for pair in find_pairs(model)]
    assert len(sources) == len(set(sources))


def test_every_dialect_names_passes_that_exist() -> None:
    from pipeline import backends

    for name in backends.names():
        for target in ("auto", "8.6", "10"):
            recipe = Recipe.load("bert", overrides={"tensorrt.target": target})
            dialect = backends.get(name).dialect(recipe)
            assert dialect and set(dialect) <= set(BY_NAME), (name, target)


# --- tidy ---


def traced() -> ir.Model:
    text = """
agraph (float[N, 4] x) => (float[N, 3] out) {
  shape = Shape(x)
  first = Gather(shape, zero)
  back = Unsqueeze(first, at)
  width = Constant<value = int64[1] {4}>()
  to = Concat<axis = 0>(back, width)
  r = Reshape(x, to)
  val_1_q = QuantizeLinear(r, val_s1, z)
  val_1 = DequantizeLinear(val_1_q, val_s1, z)
  val_2_q = QuantizeLinear(r, val_s2, z)
  val_2 = DequantizeLinear(val_2_q, val_s2, z)
  m1 = MatMul(val_1, w1)
  m2 = MatMul(val_2, w2)
  h1 = Add(m1, b1)
  h2 = Add(m2, b2)
  out = Add(h1, h2)
}"""
    equal = np.float32(0.02)  # two quantizers with one value, two biases of zeros
    zeros = {"b1": np.zeros(3, np.float32), "b2": np.zeros(3, np.float32), "zero": np.int64(0), "at": np.array([0])}
    model = parse(text, w1=normal(4, 3), w2=normal(4, 3), val_s1=equal, val_s2=equal, z=Z, **zeros)
    for node in model.graph:
        if node.op_type in ("MatMul", "Add") and node.outputs[0].name != "out":
            scope = ["", "encoder", f"encoder.dense{str(node.outputs[0].name)[-1]}", "linear"]
            node.metadata_props[SCOPES] = repr(scope)
        node.metadata_props["pkg.torch.onnx.stack_trace"] = 'File "/home/somebody/secret/model.py", line 3'
    return model


def test_tidy_names_nodes_by_their_modules_and_keeps_quantizers_apart() -> None:
    model = traced()
    x = normal(5, 4)
    expected = run(model, x=x)[0]
    assert tidy(model).modified
    np.testing.assert_allclose(run(model, x=x)[0], expected, rtol=1e-6)
    names = {str(node.name) for node in model.graph}
    assert {"encoder.dense1/MatMul", "encoder.dense2/MatMul", "encoder.dense1/Add", "encoder.dense2/Add"} <= names
    assert {"val_1/QuantizeLinear", "val_2/DequantizeLinear"} <= names
    assert {"b1", "b2"} <= set(model.graph.initializers), "equal values of two layers are not one initializer"
    assert len(names) == len(list(model.graph))


def test_tidy_removes_what_the_exporting_machine_left() -> None:
    model = tidy(traced()).model
    assert b"secret" not in ir.to_proto(model).SerializeToString()
    assert all(set(node.metadata_props) <= {QUANTIZER} for node in model.graph)
