"""Outlier migration on graphs: exact in float, folded where nothing else reads, and the check that says so can fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from calibration import ChannelStatistic, Migration, choose_factors, migration, weight_amax
from calibration.arithmetic import scale_of
from calibration.channel_binning import Axis, channels_along
from calibration.histograms import read_histograms
from helpers import tiny
from helpers.onnx_text import operators, parse, run
from helpers.runs import recipe_for, run_stages
from pipeline.graph import find_pairs, keep_pairs, migrate, set_scales
from pipeline.graph.migrate import Moved, migrate_outliers, migrations
from pipeline.judge.reference import exact_session
from pipeline.lowering import Candidates, Choice
from pipeline.model import loading, samples
from pipeline.recipe import Lowering, Recipe
from pipeline.run import Run

ALWAYS = {"fold": 0.0, "multiply": 0.0}
RNG = np.random.default_rng(0)
S, Z = np.float32(0.05), np.int8(0)
C = 6


@pytest.fixture(autouse=True)
def judged_by_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few values forbid strong factors (see test_calibration_migration.py); here it matters where they go."""
    monkeypatch.setattr(migration, "_clipping", lambda amax, s, values: np.zeros_like(amax))


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def outliers(*shape: int) -> np.ndarray:
    """Returns an array whose last axis, of C channels, has a channel 60 times as large as the others."""
    return normal(*shape) * np.array([1, 1, 60, 1, 1, 1], np.float32)


def copy(model: ir.Model) -> ir.Model:
    return ir.from_proto(ir.to_proto(model))


def in_float(model: ir.Model, **feeds: np.ndarray) -> list[np.ndarray]:
    """Returns the outputs without quantizers."""
    plain = copy(model)
    keep_pairs(plain, set())
    return run(plain, **feeds)


def statistics(model: ir.Model, axes: dict[str, Axis], **feeds: np.ndarray) -> dict[str, ChannelStatistic]:
    """Returns what calibration collects: every quantizer's float tensor, channel by channel."""
    plain, found = copy(model), {}
    for name, axis in axes.items():
        (pair,) = (p for p in find_pairs(model) if p.names == (name,))
        source = str(pair.source.name)
        keep_pairs(plain, set())
        proto = onnx.shape_inference.infer_shapes(ir.to_proto(plain))
        if source in feeds:
            x = feeds[source]
        else:
            info = next(v for v in [*proto.graph.value_info, *proto.graph.output] if v.name == source)
            del proto.graph.output[:]
            proto.graph.output.append(info)
            (x,) = run(ir.from_proto(proto), **feeds)
        found[name] = ChannelStatistic(channels_along(x, axis), name=name)
        found[name].collect(x, axis)
    return found


def migrated(model: ir.Model, axes: dict[str, Axis], **feeds: np.ndarray) -> list[Moved]:
    """Migrates, asserts that the float outputs stay, and returns what was moved."""
    before = in_float(model, **feeds)
    migrate_outliers(model, statistics(model, axes, **feeds))
    moved = migrations(model)
    for a, b in zip(before, in_float(model, **feeds), strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-5 * np.abs(a).max())
    run(model, **feeds)  # and with its quantizers it is a valid graph
    return moved


def constant_of(model: ir.Model, name: str) -> np.ndarray:
    value = model.graph.initializers[name].const_value
    assert value is not None
    return value.numpy()


# --- where the division goes ---

NORM = """
agraph (float[N, 3, 6] x) => ({outputs}) {{
  n = LayerNormalization<axis = -1>(x, g, b)
  a_q = QuantizeLinear(n, s, z)
  a = DequantizeLinear(a_q, s, z)
  t = Transpose<perm = [1, 0]>(w)
  y = MatMul(a, t)
  {more}
}}"""


def norm(more: str = "", outputs: str = "float[N, 3, 4] y", **constants: Any) -> ir.Model:
    gain = np.array([1, 1, 60, 1, 1, 1], np.float32)
    usual = {"g": gain, "b": normal(C), "w": normal(4, C), "s": S, "z": Z}
    return parse(NORM.format(more=more, outputs=outputs), **{**usual, **constants})


def test_a_division_goes_into_the_layer_norm_that_makes_the_tensor() -> None:
    model = norm()
    before = {name: constant_of(model, name).copy() for name in ("g", "b", "w")}
    kinds = operators(model)
    (moved,) = migrated(model, {"a": -1}, x=normal(8, 3, C))
    assert (moved.quantizers, moved.into) == (("a",), "n") and moved.gain_db > 5 and 0 < moved.strength <= 1
    assert int(np.argmax(moved.factors)) == 2
    assert operators(model) == kinds, "it costs no operator"
    np.testing.assert_allclose(constant_of(model, "g"), before["g"] / moved.factors, rtol=1e-6)
    np.testing.assert_allclose(constant_of(model, "b"), before["b"] / moved.factors, rtol=1e-6)
    np.testing.assert_allclose(constant_of(model, "w"), before["w"] * moved.factors, rtol=1e-6)


def test_a_layer_norm_without_bias_takes_it_too() -> None:
    text = NORM.format(more="", outputs="float[N, 3, 4] y").replace("(x, g, b)", "(x, g)")
    model = parse(text, g=outliers(C), w=normal(4, C), s=S, z=Z)
    (moved,) = migrated(model, {"a": -1}, x=normal(8, 3, C))
    assert moved.into == "n"


OTHER_READERS = {
    "graph output": ("", "float[N, 3, 4] y, float[N, 3, 6] n", {}),
    "residual": ("r = Add(n, x)", "float[N, 3, 4] y, float[N, 3, 6] r", {}),
    "residual behind a reshape": (
        "f = Reshape(n, to) r = Neg(f)",
        "float[N, 3, 4] y, float[N, 18] r",
        {"to": np.array([0, -1])},
    ),
    "residual with a quantizer": (
        "r_q = QuantizeLinear(n, s, z) r = DequantizeLinear(r_q, s, z) u = Add(r, x)",
        "float[N, 3, 4] y, float[N, 3, 6] u",
        {},
    ),
    "a product of no statistic": (
        "v_q = QuantizeLinear(n, s, z) v = DequantizeLinear(v_q, s, z) t2 = Transpose<perm = [1, 0]>(w2) "
        "y2 = MatMul(v, t2)",
        "float[N, 3, 4] y, float[N, 3, 5] y2",
        {"w2": normal(5, C)},
    ),
    "shared scale": (
        "m = LayerNormalization<axis = -1>(x, g, b2)",
        "float[N, 3, 4] y, float[N, 3, 6] m",
        {"b2": normal(C)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHER_READERS)
def test_where_something_else_reads_it_becomes_a_multiplication(case: str) -> None:
    more, outputs, constants = OTHER_READERS[case]
    model = norm(more, outputs, **constants)
    gain = constant_of(model, "g").copy()
    kinds = operators(model)
    (moved,) = migrated(model, {"a": -1}, x=normal(8, 3, C))
    assert (moved.quantizers, moved.into) == (("a",), "multiplication")
    kinds.insert(kinds.index("QuantizeLinear"), "Mul")
    assert operators(model) == kinds
    np.testing.assert_array_equal(constant_of(model, "g"), gain)
    np.testing.assert_allclose(constant_of(model, "a.migration"), 1 / moved.factors, rtol=1e-6)


def test_all_readers_of_a_tensor_share_the_factors() -> None:
    more = """
  b2_q = QuantizeLinear(n, s, z)
  b2 = DequantizeLinear(b2_q, s, z)
  t2 = Transpose<perm = [1, 0]>(w2)
  y2 = MatMul(b2, t2)"""
    model = norm(more, "float[N, 3, 4] y, float[N, 3, 5] y2", w2=normal(5, C))
    (moved,) = migrated(model, {"a": -1, "b2": -1}, x=normal(8, 3, C))
    assert (moved.quantizers, moved.into) == (("a", "b2"), "n")


def test_one_multiplication_serves_all_readers_of_a_tensor() -> None:
    more = """
  b2_q = QuantizeLinear(n, s, z)
  b2 = DequantizeLinear(b2_q, s, z)
  t2 = Transpose<perm = [1, 0]>(w2)
  y2 = MatMul(b2, t2)"""
    model = norm(more, "float[N, 3, 4] y, float[N, 3, 5] y2, float[N, 3, 6] n", w2=normal(5, C))
    (moved,) = migrated(model, {"a": -1, "b2": -1}, x=normal(8, 3, C))
    assert (moved.quantizers, moved.into) == (("a", "b2"), "multiplication")
    assert operators(model).count("Mul") == 1


IMAGE = """
agraph (float[N, 16, 6] x) => (float[N, 5, H, W] y) {
  n = LayerNormalization<axis = -1>(x, g, b)
  u = Transpose<perm = [0, 2, 1]>(n)
  i = Reshape(u, to)
  a_q = QuantizeLinear(i, s, z)
  a = DequantizeLinear(a_q, s, z)
  y = Conv<strides = [2, 2]>(a, w)
}"""


@pytest.mark.parametrize("alone", [True, False])
def test_layout_operators_between_are_passed(alone: bool) -> None:
    text = IMAGE if alone else IMAGE.replace("W] y)", "W] y, float[N, 6, 16] u)")
    to = np.array([0, C, 4, 4])
    model = parse(text, g=outliers(C), b=normal(C), w=normal(5, C, 2, 2), to=to, s=S, z=Z)
    (moved,) = migrated(model, {"a": 1}, x=normal(8, 16, C))
    assert moved.into == ("n" if alone else "multiplication")
    if not alone:
        assert constant_of(model, "a.migration").shape == (C, 1, 1)


def test_a_convolution_of_a_sequence_is_multiplied_along_its_channels() -> None:
    text = """
agraph (float[N, 6, L] x) => (float[N, 5, M] y) {
  a_q = QuantizeLinear(x, s, z)
  a = DequantizeLinear(a_q, s, z)
  y = Conv(a, w)
}"""
    model = parse(text, w=normal(5, C, 3), s=S, z=Z)
    (moved,) = migrated(model, {"a": 1}, x=outliers(2, 9, C).transpose(0, 2, 1))
    assert moved.into == "multiplication" and constant_of(model, "a.migration").shape == (C, 1)


LINEAR = """
agraph (float[N, 3, 5] x) => ({outputs}) {{
  t1 = Transpose<perm = [1, 0]>({w1})
  m = MatMul(x, t1)
  h = Add({add})
  a_q = QuantizeLinear(h, s, z)
  a = DequantizeLinear(a_q, s, z)
  t2 = Transpose<perm = [1, 0]>(w2)
  y = MatMul(a, t2)
  {more}
}}"""


def linear(
    add: str = "m, b1", more: str = "", outputs: str = "float[N, 3, 4] y", w1: str = "w1", **constants: Any
) -> ir.Model:
    usual = {"w1": outliers(5, C).T, "b1": normal(C), "w2": normal(4, C), "s": S, "z": Z}
    return parse(LINEAR.format(add=add, more=more, outputs=outputs, w1=w1), **{**usual, **constants})


@pytest.mark.parametrize("add", ["m, b1", "b1, m"])
def test_a_division_goes_into_the_linear_layer_that_makes_the_tensor(add: str) -> None:
    model = linear(add)
    before = {name: constant_of(model, name).copy() for name in ("w1", "b1", "w2")}
    kinds = operators(model)
    (moved,) = migrated(model, {"a": -1}, x=normal(8, 3, 5))
    assert (moved.quantizers, moved.into) == (("a",), "m") and operators(model) == kinds
    np.testing.assert_allclose(constant_of(model, "w1"), before["w1"] / moved.factors[:, None], rtol=1e-6)
    np.testing.assert_allclose(constant_of(model, "b1"), before["b1"] / moved.factors, rtol=1e-6)
    np.testing.assert_allclose(constant_of(model, "w2"), before["w2"] * moved.factors, rtol=1e-6)


NOT_FOLDED: dict[str, dict[str, Any]] = {
    "the product is an output": {"outputs": "float[N, 3, 4] y, float[N, 3, 6] m"},
    "the product is read twice": {"more": "e = Neg(m)", "outputs": "float[N, 3, 4] y, float[N, 3, 6] e"},
    "the sum is an output": {"outputs": "float[N, 3, 4] y, float[N, 3, 6] h"},
    "the weight is shared": {
        "more": "t3 = Transpose<perm = [1, 0]>(w1) e = MatMul(x, t3)",
        "outputs": "float[N, 3, 4] y, float[N, 3, 6] e",
    },
    "the transposed weight is shared": {"more": "e = MatMul(x, t1)", "outputs": "float[N, 3, 4] y, float[N, 3, 6] e"},
    "the bias is shared": {"more": "e = Neg(b1)", "outputs": "float[N, 3, 4] y, float[6] e"},
    "the bias is of another shape": {"b1": normal(1, 1, C)},
    "the bias is one number": {"b1": np.float32(0.5)},
    "a residual is added": {"add": "m, r", "more": "", "r_input": True},
    "a function comes after": {"relu": True},
}


@pytest.mark.parametrize("case", NOT_FOLDED)
def test_a_linear_layer_that_must_stay_is_not_touched(case: str) -> None:
    options = dict(NOT_FOLDED[case])
    feeds = {"x": normal(8, 3, 5)}
    if options.pop("r_input", False):
        text = LINEAR.format(add="m, r", more="", outputs="float[N, 3, 4] y", w1="w1")
        text = text.replace("float[N, 3, 5] x)", "float[N, 3, 5] x, float[N, 3, 6] r)")
        model = parse(text, w1=outliers(5, C).T, w2=normal(4, C), s=S, z=Z)
        feeds["r"] = normal(8, 3, C)
    elif options.pop("relu", False):
        text = LINEAR.format(add="m, b1", more="", outputs="float[N, 3, 4] y", w1="w1")
        text = text.replace("h = Add(m, b1)", "h0 = Add(m, b1) h = Relu(h0)")
        model = parse(text, w1=outliers(5, C).T, b1=normal(C), w2=normal(4, C), s=S, z=Z)
    else:
        model = linear(**options)
    weight = constant_of(model, "w1").copy()
    (moved,) = migrated(model, {"a": -1}, **feeds)
    assert moved.into == "multiplication"
    np.testing.assert_array_equal(constant_of(model, "w1"), weight)


SHARED = {
    "the stored weight": "t3 = Transpose<perm = [1, 0]>(w2) e = MatMul(h, t3)",
    "the transposed weight": "e = MatMul(h, t2)",
}


@pytest.mark.parametrize("case", SHARED)
def test_a_shared_weight_is_never_multiplied(case: str) -> None:
    model = linear(more=SHARED[case], outputs="float[N, 3, 4] y, float[N, 3, 4] e")
    before = ir.to_proto(model).SerializeToString()
    assert migrated(model, {"a": -1}, x=normal(8, 3, 5)) == []
    assert ir.to_proto(model).SerializeToString() == before


def test_a_weight_whose_quantized_copy_is_shared_is_never_multiplied() -> None:
    text = """
agraph (float[N, 6] x) => (float[N, 4] y, float[N, 4] e) {
  a_q = QuantizeLinear(x, s, z)
  a = DequantizeLinear(a_q, s, z)
  w_q = QuantizeLinear(w, s, z)
  w8 = DequantizeLinear(w_q, s, z)
  t = Transpose<perm = [1, 0]>(w8)
  t2 = Transpose<perm = [1, 0]>(w8)
  y = MatMul(a, t)
  e = MatMul(x, t2)
}"""
    assert migrated(parse(text, w=normal(4, C), s=S, z=Z), {"a": -1}, x=outliers(9, C)) == []


def test_weights_in_another_layout_and_products_of_activations_are_left() -> None:
    text = """
agraph (float[N, 6] x, float[6, 4] v) => (float[N, 4] y, float[N, 4] e) {
  a_q = QuantizeLinear(x, s, z)
  a = DequantizeLinear(a_q, s, z)
  y = MatMul(a, w)
  c_q = QuantizeLinear(x, s, z)
  c = DequantizeLinear(c_q, s, z)
  e = MatMul(c, v)
}"""
    model = parse(text, w=normal(C, 4), s=S, z=Z)
    assert migrated(model, {"a": -1, "c": -1}, x=outliers(9, C), v=normal(C, 4)) == []


CONV = """
agraph (float[N, 3, 8, 8] x) => (float[N, 6, H, W] y) {{
  h = Conv(x, w1{bias})
  a_q = QuantizeLinear(h, s, z)
  a = DequantizeLinear(a_q, s, z)
  y = Conv<group = {group}, pads = [1, 1, 1, 1]>(a, w2)
}}"""


@pytest.mark.parametrize("bias", ["", ", b1"])
@pytest.mark.parametrize(
    ("group", "shape"), [(C, (C, 1, 3, 3)), (1, (C, C, 3, 3)), (2, (C, 3, 3, 3)), (3, (C, 2, 3, 3))], ids=str
)
def test_a_convolution_takes_the_division_and_depthwise_ones_read_it(bias: str, group: int, shape: Any) -> None:
    constants = {
        "w1": outliers(3, 1, 1, C).transpose(3, 0, 1, 2),
        "b1": normal(C),
        "w2": normal(*shape),
        "s": S,
        "z": Z,
    }
    if not bias:
        del constants["b1"]
    model = parse(CONV.format(bias=bias, group=group), **constants)
    moved = migrated(model, {"a": 1}, x=normal(4, 3, 8, 8))
    if group in (1, C):
        (one,) = moved
        assert (one.quantizers, one.into) == (("a",), "h") and "Mul" not in operators(model)
        shape_of_s = (-1, 1, 1, 1) if group == C else (1, -1, 1, 1)
        np.testing.assert_allclose(
            constant_of(model, "w2"), constants["w2"] * one.factors.reshape(shape_of_s), rtol=1e-6
        )
    else:
        assert moved == [], "of grouped convolutions only depthwise ones"


def test_groups_of_two_input_channels_are_left_however_many_groups() -> None:
    text = CONV.format(bias="", group=3).replace("float[N, 6, H, W] y", "float[N, 3, H, W] y")
    model = parse(text, w1=outliers(3, 1, 1, C).transpose(3, 0, 1, 2), w2=normal(3, 2, 3, 3), s=S, z=Z)
    assert migrated(model, {"a": 1}, x=normal(4, 3, 8, 8)) == []


ATTENTION = """
agraph (float[N, T, 5] x, float[N, 2, S, T] p) => ({outputs}) {{
  t1 = Transpose<perm = [1, 0]>(wv)
  m = MatMul(x, t1)
  v = Add(m, bv)
  r = Reshape(v, split)
  h = Transpose<perm = [0, 2, 1, 3]>(r)
  {quantize}
  c = MatMul(p, {values})
  ct = Transpose<perm = [0, 2, 1, 3]>(c)
  o = Reshape(ct, join)
  a_q = QuantizeLinear(o, s, z)
  a = DequantizeLinear(a_q, s, z)
  t2 = Transpose<perm = [1, 0]>(wo)
  y = MatMul(a, t2)
  {more}
}}"""
QUANTIZED = "v8_q = QuantizeLinear(h, s, z) v8 = DequantizeLinear(v8_q, s, z)"


def attention(quantize: str = QUANTIZED, outputs: str = "float[N, S, 4] y", more: str = "") -> ir.Model:
    text = ATTENTION.format(quantize=quantize, values="v8" if quantize else "h", outputs=outputs, more=more)
    constants = {
        "wv": outliers(5, C).T, "bv": normal(C), "wo": normal(4, C), "s": S, "z": Z,
        "split": np.array([0, 0, 2, 3]), "join": np.array([0, 0, C]),
    }  # fmt: skip
    return parse(text, **constants)


def attended() -> dict[str, np.ndarray]:
    scores = np.exp(RNG.standard_normal((4, 2, 7, 9)))
    return {"x": normal(4, 9, 5), "p": (scores / scores.sum(-1, keepdims=True)).astype(np.float32)}


def test_a_division_passes_the_attention_product_into_the_value_projection() -> None:
    model = attention()
    before = {name: constant_of(model, name).copy() for name in ("wv", "bv", "wo")}
    kinds = operators(model)
    (moved,) = migrated(model, {"a": -1, "v8": (1, 3)}, **attended())
    assert (moved.quantizers, moved.into) == (("a", "v8"), "m"), "the values' quantizer is divided as well"
    assert operators(model) == kinds
    np.testing.assert_allclose(constant_of(model, "wv"), before["wv"] / moved.factors[:, None], rtol=1e-6)
    np.testing.assert_allclose(constant_of(model, "bv"), before["bv"] / moved.factors, rtol=1e-6)
    np.testing.assert_allclose(constant_of(model, "wo"), before["wo"] * moved.factors, rtol=1e-6)


def test_values_without_a_quantizer_are_passed_too() -> None:
    (moved,) = migrated(attention(quantize=""), {"a": -1}, **attended())
    assert (moved.quantizers, moved.into) == (("a",), "m")


BLOCKED = {
    "values without statistic": ({}, {"a": -1}),
    "values read elsewhere": ({"more": "e = Neg(v)", "outputs": "float[N, S, 4] y, float[N, T, 6] e"}, None),
    "heads read elsewhere": ({"more": "e = Neg(h)", "outputs": "float[N, S, 4] y, float[N, 2, T, 3] e"}, None),
    "values quantized for two": (
        {"more": "e = MatMul(p, v8)", "outputs": "float[N, S, 4] y, float[N, 2, S, 3] e"},
        None,
    ),
    "context read elsewhere": ({"more": "e = Neg(c)", "outputs": "float[N, S, 4] y, float[N, 2, S, 3] e"}, None),
}


@pytest.mark.parametrize("case", BLOCKED)
def test_what_else_reads_the_values_keeps_them(case: str) -> None:
    options, axes = BLOCKED[case]
    model = attention(**options)
    weight = constant_of(model, "wv").copy()
    (moved,) = migrated(model, axes or {"a": -1, "v8": (1, 3)}, **attended())
    assert (moved.quantizers, moved.into) == (("a",), "multiplication")
    np.testing.assert_array_equal(constant_of(model, "wv"), weight)


# --- when it is worth it ---


def test_nothing_is_done_where_nothing_is_gained() -> None:
    x = np.sign(normal(64, 3, C))  # every channel alike
    for more, outputs in (("", "float[N, 3, 4] y"), ("r = Neg(n)", "float[N, 3, 4] y, float[N, 3, 6] r")):
        alike = {"g": np.ones(C, np.float32), "b": np.zeros(C, np.float32), "w": np.sign(normal(4, C))}
        model = norm(more, outputs, **alike)
        before = ir.to_proto(model).SerializeToString()
        assert migrated(model, {"a": -1}, x=x) == []
        assert ir.to_proto(model).SerializeToString() == before


@pytest.mark.parametrize("kind", ["fold", "multiply"])
def test_a_fold_is_free_and_a_multiplication_must_pay(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = "float[N, 3, 4] y" + (", float[N, 3, 6] n" if kind == "multiply" else "")
    x = normal(8, 3, C)
    monkeypatch.setattr(migrate, "choose_factors", planted(0.5))
    assert len(migrated(norm(outputs=outputs), {"a": -1}, x=x)) == (kind == "fold")
    monkeypatch.setattr(migrate, "choose_factors", planted(1.5))
    assert len(migrated(norm(outputs=outputs), {"a": -1}, x=x)) == 1
    monkeypatch.setattr(migrate, "choose_factors", planted(0.05))
    assert migrated(norm(outputs=outputs), {"a": -1}, x=x) == []


def planted(gain_db: float, spread: float = 1.0) -> Callable[..., Migration]:
    """Returns a choose_factors that finds random factors and promises a gain."""

    def choose(channel: ChannelStatistic, *_: Any, **__: Any) -> Migration:
        factors = np.exp(spread * np.random.default_rng(channel.channels).standard_normal(channel.channels))
        return Migration(factors.astype(np.float32), 0.5, 1.0, float(10 ** (gain_db / 10)))

    return choose


def test_quantized_outputs_come_nearer_to_the_float_ones() -> None:
    """In max calibration, the products that the prediction is about lose the noise that it promises to take."""
    for model, axes, feeds in (
        (norm(w=normal(32, C), outputs="float[N, 3, 32] y"), {"a": -1}, {"x": normal(300, 3, C)}),
        (linear(w2=normal(32, C), outputs="float[N, 3, 32] y"), {"a": -1}, {"x": normal(300, 3, 5)}),
    ):
        true = in_float(model, **feeds)[0]
        noise = []
        for _ in range(2):
            tops = {name: float(s.amax.max()) for name, s in statistics(model, axes, **feeds).items()}
            active = copy(model)
            set_scales(active, {name: scale_of(top) for name, top in tops.items()})
            noise.append(float(np.square(run(active, **feeds)[0] - true).mean()))
            if len(noise) == 1:
                (moved,) = migrated(model, axes, **feeds)
        gain = 10 * np.log10(noise[0] / noise[1])  # the weights are float here: less error than predicted
        assert gain > 6 and gain > moved.gain_db - 2


# --- exported models ---


@dataclass
class Graph:
    """A model's graph of candidates, its statistics, and what the checkpoint computes in PyTorch."""

    candidates: Path
    channels: dict[str, ChannelStatistic]
    inputs: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]

    def load(self) -> ir.Model:
        return ir.load(self.candidates)


TWO_STAGES = {
    "num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [4, 1], "hidden_sizes": [16, 32], "patch_sizes": [7, 3],
    "strides": [4, 2], "num_attention_heads": [1, 2], "mlp_ratios": [4, 4],
}  # fmt: skip
CASES = [("bert", True), ("bert", False), ("segformer", True), ("segformer", False)]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{'rewritten' if case[1] else 'original'}")
def graph(
    request: pytest.FixtureRequest,
    exported: Callable[[str], Recipe],
    checkpoints: dict[str, Path],
    data: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Graph:
    name, rewrites = request.param
    if rewrites:
        recipe = exported(name)
        candidates = recipe.folder / "candidates.onnx"
    else:
        from pipeline.stages.export import export_quantized

        folder = tmp_path_factory.mktemp("original")
        checkpoint = tiny.segformer(folder / "small", **TWO_STAGES) if name == "segformer" else checkpoints[name]
        few = {"rewrites": False, "calibration__samples": 2, "calibration__batch_size": 2}
        recipe = recipe_for(name, folder / name, checkpoint, data[name], **few)
        run_stages(recipe, "quantize", "calibrate")
        _, made = export_quantized(loading.open_source(recipe), Run.of(recipe))
        candidates = folder / "candidates.onnx"
        ir.save(made, candidates)
    source = loading.open_source(recipe)
    inputs = loading.random_inputs(source, recipe, batch=3)
    expected = loading.run_torch(loading.float_model(source), inputs, source.outputs)
    return Graph(candidates, read_histograms(recipe.folder / "calibration.npz")[1], inputs, expected)


def float_difference(graph: Graph, model: ir.Model, folder: Path) -> float:
    """Returns by how much the graph without quantizers differs from the checkpoint, relative to the largest output."""
    plain = copy(model)
    keep_pairs(plain, set())
    onnx.checker.check_model(ir.to_proto(plain), full_check=True)
    ir.save(plain, folder / "plain.onnx")
    found = exact_session(folder / "plain.onnx", 1)(graph.inputs)
    assert found.keys() == graph.expected.keys()
    return max(float(np.abs(found[k] - v).max() / np.abs(v).max()) for k, v in graph.expected.items())


FLOAT = 1e-5  # what rounding may make; the migrated graphs are at a few 1e-7


def test_the_float_outputs_of_a_model_stay(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "LEAST_GAIN", ALWAYS)
    model = graph.load()
    migrate_outliers(model, graph.channels)
    moved = migrations(model)
    names = [name for m in moved for name in m.quantizers]
    assert len(set(names)) == len(names) and set(names) <= set(graph.channels)
    assert len(names) > 0.9 * len(graph.channels), "nearly every tensor can be divided"
    assert float_difference(graph, model, tmp_path) < FLOAT
    for m in moved:
        best = choose_factors(graph.channels[m.quantizers[0]], [np.ones((4, len(m.factors), 1), np.float32)])
        assert m.factors.shape == best.factors.shape and m.gain_db >= 0


def test_they_stay_for_any_factors(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "choose_factors", planted(99))
    model = graph.load()
    migrate_outliers(model, graph.channels)
    moved = migrations(model)
    assert {name for m in moved for name in m.quantizers} == set(graph.channels), "every tensor is divided"
    assert max(float(m.factors.max() / m.factors.min()) for m in moved) > 50
    assert float_difference(graph, model, tmp_path) < FLOAT


def kind_of(m: Moved) -> str:
    """Returns where a division went: 'LayerNormalization', 'MatMul', 'Conv' or 'multiplication'."""
    return m.into.rpartition("/")[2]


def test_divisions_are_folded_where_nothing_else_reads(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "LEAST_GAIN", ALWAYS)
    model = graph.load()
    before = operators(model).count("Mul")
    migrate_outliers(model, graph.channels)
    moved = migrations(model)
    into = {name.removesuffix("._input_quantizer"): kind_of(m) for m in moved for name in m.quantizers}
    assert operators(model).count("Mul") - before == sum(kind_of(m) == "multiplication" for m in moved)
    if "bert.encoder.layer.0.attention.self.query" in into:
        layer = "bert.encoder.layer.1"
        for site in ("attention.self.query", "attention.self.key", "attention.self.value", "intermediate.dense"):
            assert into[f"{layer}.{site}"] == "multiplication", "a residual reads the layer norm too"
        assert into[f"{layer}.output.dense"] == "multiplication", "behind a GELU"
        assert into[f"{layer}.attention.output.dense"] == "MatMul"
        assert into["qa_outputs"] == "LayerNormalization", "nothing reads the last one but the head"
        values = f"{layer}.attention.self.value/MatMul"
        (context,) = (m for m in moved if m.into == values)
        assert set(context.quantizers) == {
            f"{layer}.attention.output.dense._input_quantizer",
            f"{layer}.attention.self.matmul_v_input_quantizer",
        }
    else:
        block = "segformer.stages.0.blocks.0"
        for site in ("attention.q_proj", "attention.k_proj", "attention.v_proj", "mlp.fc1"):
            assert into[f"{block}.{site}"] == "LayerNormalization"
        assert into[f"{block}.attention.o_proj"] == "MatMul"
        depthwise = {name: where for name, where in into.items() if ".dwconv" in name}
        assert len(depthwise) in (2, 4) and set(depthwise.values()) <= {"Conv", "MatMul"}, "fc1 makes what it reads"
        assert into[f"{block}.mlp.fc2"] == "multiplication", "behind a GELU"
        assert into["segformer.stages.0.patch_embeddings.proj"] == "multiplication", "the image itself"
        assert into["decode_head.classifier"] == "multiplication", "behind a ReLU"


def test_only_what_pays_is_done(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(fold: float, multiply: float) -> dict[tuple[str, ...], Moved]:
        monkeypatch.setattr(migrate, "LEAST_GAIN", {"fold": fold, "multiply": multiply})
        return {m.quantizers: m for m in migrations(migrate_outliers(graph.load(), graph.channels).model)}

    everything, some, nothing = made(0.0, 0.0), made(1.0, 2.0), made(np.inf, np.inf)
    assert nothing == {} and 0 < len(some) < len(everything)
    least = {True: 2.0, False: 1.0}
    for names, m in everything.items():
        pays = m.gain_db >= least[m.into == "multiplication"]
        assert (names in some) == pays or abs(m.gain_db - least[m.into == "multiplication"]) < 0.3


def initializers(model: ir.Model, before: ir.Model) -> list[str]:
    """Returns the float constants that migration changed or made."""
    old = {name: v.const_value for name, v in before.graph.initializers.items()}
    return [
        name
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
        and value.const_value.dtype == ir.DataType.FLOAT
        and (name not in old or not np.array_equal(value.const_value.numpy(), old[name].numpy()))  # type: ignore[union-attr]
    ]


def test_a_wrong_factor_at_any_place_fails_the_check(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LEAST_GAIN", ALWAYS)
    model = graph.load()
    migrate_outliers(model, graph.channels)
    changed = initializers(model, graph.load())
    kinds = dict.fromkeys(("norm.weight", "norm.bias", "weight", "bias", "migration"), 0)
    for name in changed:
        kind = next(k for k in kinds if name.lower().replace("layer_", "layer").endswith(k))
        if kinds[kind] >= 2:
            continue
        kinds[kind] += 1
        corrupted = copy(model)
        value = corrupted.graph.initializers[name]
        array = value.const_value.numpy().copy()  # type: ignore[union-attr]
        channel = int(np.argmax(np.abs(array).reshape(len(array), -1).max(1)))
        array[channel] *= 2
        value.const_value = ir.tensor(array, name=name)
        assert float_difference(graph, corrupted, tmp_path) > 10 * FLOAT, name
    assert kinds["weight"] == 2 and kinds["bias"] >= 1 and kinds["migration"] >= 1


# --- from the graph to scales ---


@pytest.mark.parametrize("name", ["bert", "segformer"])
def test_lowering_takes_the_scales_of_the_divided_tensors(
    name: str, exported: Callable[[str], Recipe], tmp_path: Path
) -> None:
    full_range = Lowering(any_cpu=False)  # type: ignore[call-arg]
    recipe = exported(name).model_copy(update={"backend": "onnxruntime", "lowering": full_range})
    candidates = Candidates(Run.of(recipe))
    plain = candidates.lower(Choice("max", 99.99, migration=False))
    lowered = candidates.lower(Choice("max", 99.99, migration=True))
    again = candidates.lower(Choice("max", 99.99, migration=True))
    assert ir.to_proto(lowered.graph).SerializeToString() == ir.to_proto(again.graph).SerializeToString()
    assert plain.moved == [] and len(lowered.moved) > 3 and plain.scales.keys() == lowered.scales.keys()
    divided = {quantizer: m for m in lowered.moved for quantizer in m.quantizers}
    channels = candidates.histograms[1]
    for quantizer, scale in lowered.scales.items():
        if quantizer in divided:
            top = float((channels[quantizer].amax / divided[quantizer].factors).max())
            np.testing.assert_allclose(scale, top / 127, rtol=1e-6)
        elif scale.ndim == 0:
            np.testing.assert_array_equal(scale, plain.scales[quantizer])
    graph = ir.load(recipe.folder / "candidates.onnx")
    keep_pairs(graph, candidates.enabled)
    migrate_outliers(graph, channels)
    weights = [p for p in find_pairs(graph) if p.source.const_value is not None]
    assert any(not np.array_equal(lowered.scales[p.names[0]], plain.scales[p.names[0]]) for p in weights)
    for pair in weights:
        assert pair.source.const_value is not None
        amax = weight_amax(pair.source.const_value.numpy(), pair.axis)
        np.testing.assert_array_equal(lowered.scales[pair.names[0]], scale_of(amax))
    rows = lowered.to_json()["migrations"]
    assert [row["quantizers"] for row in rows] == [list(m.quantizers) for m in lowered.moved]
    assert all(row["smallest_factor"] <= 1 <= row["largest_factor"] for row in rows)
    assert plain.to_json()["migrations"] == []


@pytest.mark.parametrize("name", ["bert", "segformer"])
def test_on_the_calibration_data_the_lowered_model_comes_nearer_to_float(
    name: str, exported: Callable[[str], Recipe], tmp_path: Path
) -> None:
    recipe = exported(name).model_copy(update={"backend": "onnxruntime"})
    candidates = Candidates(Run.of(recipe))
    source = loading.open_source(recipe)
    inputs, _ = samples.calibration(recipe, source, recipe.folder)
    expected = loading.run_torch(loading.float_model(source), inputs, source.outputs)
    judged = inputs["attention_mask"] != 0 if "attention_mask" in inputs else np.s_[:]
    noise = []
    for moved in (False, True):
        ir.save(candidates.lower(Choice("max", 99.99, moved)).graph, tmp_path / "model.onnx")
        found = exact_session(tmp_path / "model.onnx", 1)(inputs)
        noise.append(
            sum(float(np.square(found[k] - v)[judged].mean() / np.square(v).mean()) for k, v in expected.items())
        )
    assert noise[1] < 0.8 * noise[0]
