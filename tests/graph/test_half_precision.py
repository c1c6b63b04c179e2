"""The strongly typed dialect: scales that fp16 holds, types, casts, and values that fp16 could spoil.

ONNX Runtime's CPU kernels compute much of fp16 in fp32, so what overflow would do is shown in ONNX's reference
implementation, which rounds every tensor to fp16.
"""

from __future__ import annotations

import numpy as np
import onnx.reference
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.onnx_text import operators, parse, run
from pipeline.errors import InputError
from pipeline.graph import dropped, find_pairs, half_precision, half_types
from pipeline.graph.half_precision import half_precision as to_fp16
from pipeline.graph.half_scales import half_scales, to_half
from pipeline.graph.int8_weights import store_int8_weights
from pipeline.graph.sink_pairs import sink_below_layout

Z = np.int8(0)
HALF, SINGLE = ir.DataType.FLOAT16, ir.DataType.FLOAT
SMALLEST = 2.0**-14
TOLERANCE = 1e-2  # of a layer: 4.6e-3 is the worst of 40 draws, where scores of 20 are rounded to 2⁻⁷


def normal(*shape: int) -> np.ndarray:
    """Returns the same numbers whichever tests ran before: a value on a rounding boundary would move a tolerance."""
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def reference(model: ir.Model, **feeds: np.ndarray) -> np.ndarray:
    """Returns the first output as ONNX's reference implementation computes it, every tensor rounded to its type."""
    with np.errstate(all="ignore"):
        return np.asarray(onnx.reference.ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)[0])


def off(found: np.ndarray, expected: np.ndarray) -> float:
    """Returns the root mean square of the difference, as a share of the expected; infinite where it is no number."""
    difference = np.sqrt(np.square(found - expected).mean() / np.square(expected).mean())
    return float(difference) if np.isfinite(difference) else float("inf")


def casts(model: ir.Model) -> list[tuple[str, str]]:
    """Returns (operator in front, operator behind) of every Cast; '' for an input or output of the graph."""
    found = []
    for node in model.graph:
        if node.op_type == "Cast":
            above = node.inputs[0].producer() if node.inputs[0] is not None else None
            readers = [n.op_type for n in node.outputs[0].consumers()] or [""]
            found += [(above.op_type if above else "", reader) for reader in readers]
    return found


def types(model: ir.Model) -> dict[str, ir.DataType | None]:
    return {str(v.name): v.dtype for n in model.graph for v in n.outputs}


# --- scales ---


@settings(max_examples=200, deadline=None)
@given(st.floats(2.0**-17, 500, width=32))
def test_a_scale_becomes_a_normal_number_of_fp16(scale: float) -> None:
    half = to_half(np.float32(scale))
    assert np.float16(half) == half and half >= SMALLEST, "fp16 holds it exactly, with all 11 bits"
    if scale >= SMALLEST:
        assert abs(half - scale) <= 2.0**-11 * scale
    else:
        assert half == np.float32(SMALLEST)


LINEAR = """
agraph (float[N, 64] x) => (float[N, 4] y) {
  a_q = QuantizeLinear(x, s, z)
  a = DequantizeLinear(a_q, s, z)
  w_q = QuantizeLinear<axis = 0>(weight, sw, zw)
  w = DequantizeLinear<axis = 0>(w_q, sw, zw)
  t = Transpose<perm = [1, 0]>(w)
  y = MatMul(a, t)
}"""


def linear(amax: list[float], activation: float = 4.0) -> ir.Model:
    """Returns a layer whose weight channels have these largest values."""
    weight = np.random.default_rng(1).uniform(-1, 1, (4, 64)).astype(np.float32)
    weight *= np.array(amax, np.float32)[:, None] / np.abs(weight).max(1, keepdims=True)
    largest = np.abs(weight).max(1)
    scale = np.where(largest > 0, largest, 127) / np.float32(127)
    constants = {"weight": weight, "sw": scale.astype(np.float32), "zw": np.zeros(4, np.int8)}
    return parse(LINEAR, s=np.float32(activation / 127), z=Z, **constants)


def finish(model: ir.Model) -> ir.Model:
    for graph_pass in (half_scales, sink_below_layout, store_int8_weights, to_fp16):
        graph_pass(model)
    return model


# channel maxima: usual; a step just below 2⁻¹⁴; 5 and 50 times below; zeros
CHANNELS = [0.5, 0.0077, 1.5e-3, 1.47e-4]


def test_channels_of_tiny_weights_are_rounded_to_the_smallest_normal_step() -> None:
    model = linear(CHANNELS)
    weight = model.graph.initializers["weight"].const_value.numpy()  # type: ignore[union-attr]
    assert half_scales(model).modified and not half_scales(model).modified
    store_int8_weights(model)
    (node,) = (n for n in model.graph if n.op_type == "DequantizeLinear" and n.inputs[0].const_value is not None)  # type: ignore[union-attr]
    stored, scale = (node.inputs[i].const_value.numpy() for i in (0, 1))  # type: ignore[union-attr]
    assert (scale[1:] == SMALLEST).all() and scale[0] == np.float16(scale[0]) and scale[0] > SMALLEST
    error = np.abs(stored.T * scale[:, None] - weight)
    assert (error <= scale[:, None] / 2 * 1.001).all(), "half a step: the scale is rounded before the weights are"
    assert (error[1:] <= 2.0**-15).all()


def test_tiny_channels_cost_less_than_the_layers_other_channels() -> None:
    x = normal(500, 64)
    model = linear(CHANNELS)
    exact = x @ model.graph.initializers["weight"].const_value.numpy().T  # type: ignore[union-attr]
    before = run(model, x=x)[0]
    found = run(finish(model), x=x)[0]
    noise = lambda y: np.sqrt(np.square(y - exact).mean(0))  # noqa: E731
    # measured: 1.00, 1.03, 2.3 and 19 times the noise of fp32 scales, in order of CHANNELS
    assert (noise(found) / noise(before) <= [1.1, 1.2, 4, 40]).all()
    assert noise(found).max() == noise(found)[0], "in absolute terms the tiny channels stay the most exact ones"


def test_what_rounding_a_subnormal_scale_after_the_weights_would_cost() -> None:
    scale = np.float32(CHANNELS[3] / 127)
    naive = abs(float(np.float16(scale)) - scale) / scale
    assert naive > 2.0**-6, (
        "a subnormal number of few bits: a gain error of the whole channel, which no average removes"
    )


def test_a_layer_with_nothing_but_tiny_weights_stays_float() -> None:
    model = linear([5e-4, 1e-4, 1e-5, 0])
    x = normal(20, 64)
    exact = x @ model.graph.initializers["weight"].const_value.numpy().T  # type: ignore[union-attr]
    assert half_scales(model).modified
    assert list(find_pairs(model)) == [] and set(dropped(model)) == {"a", "w"}
    assert dropped(model)["a"].startswith("stays float: the step of w, 3.9e-06, is too fine")
    np.testing.assert_array_equal(run(model, x=x)[0].shape, exact.shape)


def test_an_activation_of_tiny_values_makes_its_product_float() -> None:
    model = linear([0.5] * 4, activation=5e-4)
    assert half_scales(model).modified and set(dropped(model)) == {"a", "w"}


def test_an_activation_beyond_fp16_is_refused() -> None:
    with pytest.raises(InputError, match=r"1 tensors reach beyond 65504.*a \(7e\+04\).*tensorrt.target=8.6"):
        half_scales(linear([0.5] * 4, activation=70000))


def test_both_nodes_of_a_pair_get_the_scale_also_where_one_q_has_two_dq() -> None:
    text = """
agraph (float[N, 4] x) => (float[N, 4] y) {
  a_q = QuantizeLinear(x, s, z)
  a = DequantizeLinear(a_q, s, z)
  b = DequantizeLinear(a_q, s, z)
  y = Add(a, b)
}"""
    model = parse(text, s=np.float32(0.1), z=Z)
    assert half_scales(model).modified
    scales = {float(node.inputs[1].const_value.numpy()) for node in list(model.graph)[:3]}  # type: ignore[union-attr]
    assert scales == {float(np.float16(0.1))} and not half_scales(model).modified


def test_scales_that_were_not_made_for_fp16_are_an_error() -> None:
    model = linear([0.5] * 4)
    with pytest.raises(ValueError, match="run `half_scales` first"):
        to_fp16(model)


# --- types ---

LAYER = """
agraph (float[N, 6, 16] x, int64[N, 6] attend) => (float[N, 6, 16] y) {
  n = LayerNormalization<axis = -1>(x, g, b)
  a_q = QuantizeLinear(n, s, z)
  a = DequantizeLinear(a_q, s, z)
  w = DequantizeLinear<axis = 1>(stored, sw, zw)
  h = MatMul(a, w)
  q = Add(h, b)
  k = Transpose<perm = [0, 2, 1]>(q)
  scores = MatMul(q, k)
  some = Cast<to = 9>(attend)
  wide = Unsqueeze(some, one)
  mask = Where(wide, zero, lowest)
  masked = Add(scores, mask)
  p = Softmax<axis = -1>(masked)
  c = MatMul(p, q)
  f = Gelu(c)
  y = Add(f, x)
}"""


def layer(lowest: float = -3.4028234663852886e38) -> ir.Model:
    values = np.random.default_rng(3)
    g, b = values.standard_normal((2, 16)).astype(np.float32)
    constants = {
        "g": g, "b": b, "s": np.float32(2.0**-5), "z": Z, "one": np.array([1]),
        "stored": values.integers(-127, 128, (16, 16)).astype(np.int8),
        "sw": to_half(np.full(16, 0.004, np.float32)), "zw": np.zeros(16, np.int8),
        "zero": np.float32(0), "lowest": np.float32(lowest),
    }  # fmt: skip
    return parse(LAYER, **constants)


def attend(*lengths: int) -> np.ndarray:
    return np.stack([np.arange(6) < length for length in lengths]).astype(np.int64)


def test_all_between_inputs_and_outputs_is_fp16() -> None:
    model = layer()
    x, mask = normal(3, 6, 16), attend(6, 4, 1)
    expected = run(model, x=x, attend=mask)[0]
    assert to_fp16(model).modified
    found = types(model)
    assert found["y"] == SINGLE and {v.dtype for v in model.graph.inputs} == {SINGLE, ir.DataType.INT64}
    inner = {name: kind for name, kind in found.items() if name not in ("y", "a_q", "some", "wide")}
    assert set(inner.values()) == {HALF}, inner
    assert {str(v.dtype) for v in model.graph.initializers.values()} == {"FLOAT16", "INT8", "INT64"}
    assert sorted(casts(model)) == [("", "Add"), ("", "LayerNormalization"), ("", "Unsqueeze"), ("Add", "")]
    assert operators(model).count("Cast") == 3, "one for each float input and output, one that was there"
    assert off(run(model, x=x, attend=mask)[0], expected) < TOLERANCE
    assert off(reference(model, x=x, attend=mask), expected) < TOLERANCE
    assert not to_fp16(model).modified, "a graph with fp16 is left as it is"


def test_a_graph_without_float_is_left_as_it_is() -> None:
    model = parse("agraph (int64[N] x) => (int64[N] y) { y = Neg(x) }")
    assert not to_fp16(model).modified and operators(model) == ["Neg"]


def test_a_q_on_an_input_reads_it_in_fp32_without_a_cast() -> None:
    model = finish(linear([0.5] * 4))
    assert operators(model) == ["DequantizeLinear", "QuantizeLinear", "DequantizeLinear", "MatMul", "Cast"] or (
        sorted(operators(model)) == sorted(["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "MatMul", "Cast"])
    )
    (found,) = find_pairs(model)
    quantize, dequantize = (node.inputs[1].const_value.numpy() for node in (found.quantize, found.dequantize))  # type: ignore[union-attr]
    assert quantize.dtype == np.float32 and dequantize.dtype == np.float16 and quantize == dequantize


def test_no_cast_stands_between_a_pair_and_its_neighbours() -> None:
    for model in (layer(), linear([0.5] * 4), pooled()):
        half_scales(model)
        to_fp16(model)
        for front, behind in casts(model):
            assert behind != "QuantizeLinear" and front != "DequantizeLinear", (front, behind)


def pooled() -> ir.Model:
    """Returns a graph whose sums read a DQ and are read by a Q."""
    text = """
agraph (float[N, 4, 8] x) => (float[N, 3] y) {
  h = Relu(x)
  a_q = QuantizeLinear(h, s, z)
  a = DequantizeLinear(a_q, s, z)
  m = ReduceMean<keepdims = 0>(a, axes)
  b_q = QuantizeLinear(m, s, z)
  b = DequantizeLinear(b_q, s, z)
  y = MatMul(b, w)
}"""
    return parse(text, s=np.float32(2.0**-5), z=Z, axes=np.array([1]), w=normal(8, 3))


def test_a_sum_between_pairs_keeps_its_pairs_in_fp32() -> None:
    model = pooled()
    x = normal(2, 4, 8)
    expected = run(model, x=x)[0]
    assert to_fp16(model).modified
    found = types(model)
    assert (found["h"], found["a"], found["m"], found["b"]) == (HALF, SINGLE, SINGLE, HALF)
    assert off(run(model, x=x)[0], expected) < 2e-3


def test_operators_without_an_fp16_form_stay_fp32() -> None:
    text = """
agraph (float[1, 2, 4, 4] x, float limit) => (float[1, 2, 8, 8] y) {
  r = Resize<mode = "linear">(x, , scales)
  steps = Range(zero, limit, one)
  y = Add(r, steps)
}"""
    model = parse(text, scales=np.array([1, 1, 2, 2], np.float32), zero=np.float32(0), one=np.float32(1))
    feeds = {"x": normal(1, 2, 4, 4), "limit": np.array(8, np.float32)}
    expected = run(model, **feeds)[0]
    assert to_fp16(model).modified
    assert {n: v.dtype for n, v in model.graph.initializers.items()} == {
        "scales": SINGLE,
        "zero": SINGLE,
        "one": SINGLE,
    }
    assert types(model)["r"] == HALF and types(model)["steps"] == SINGLE
    assert off(run(model, **feeds)[0], expected) < 2e-3


def test_a_constant_that_both_read_is_stored_twice() -> None:
    text = """
agraph (float[N, 4] x) => (float[N, 1] y) {
  h = Mul(x, two)
  m = ReduceMean(h, axes)
  v = Add(m, two)
  y = Neg(v)
}"""
    model = parse(text, two=np.float32(2), axes=np.array([1]))
    expected = run(model, x=normal(3, 4) * 0 + 1)[0]
    assert to_fp16(model).modified
    kinds = {n: v.dtype for n, v in model.graph.initializers.items() if v.dtype != ir.DataType.INT64}
    assert sorted(map(str, kinds.values())) in (["FLOAT", "FLOAT16"], ["FLOAT"])
    np.testing.assert_allclose(run(model, x=np.ones((3, 4), np.float32))[0], expected, rtol=1e-3)


def test_an_output_that_others_read_has_one_cast_and_its_name() -> None:
    text = "agraph (float[N, 4] x) => (float[N, 4] h, float[N, 4] y) { h = Relu(x) n = Neg(h) y = Exp(n) }"
    model = parse(text)
    x = normal(3, 4)
    expected = run(model, x=x)
    assert to_fp16(model).modified
    assert [v.name for v in model.graph.outputs] == ["h", "y"] and types(model)["h/float16"] == HALF
    assert casts(model) == [("", "Relu"), ("Relu", ""), ("Exp", "")]
    for a, b in zip(run(model, x=x), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3)


def test_a_constant_of_shape_is_fp16_too() -> None:
    text = """
agraph (float[N, 4] x) => (float[N, 4] y) {
  shape = Shape(x)
  c = ConstantOfShape<value = float[1] {3.0}>(shape)
  y = Add(x, c)
}"""
    model = parse(text)
    x = normal(2, 4)
    assert to_fp16(model).modified
    np.testing.assert_allclose(run(model, x=x)[0], x + 3, atol=4e-3)


# --- what fp16 could spoil ---


@pytest.mark.parametrize("lowest", [-3.4028234663852886e38, -np.inf, -1e9, -65504.0, -1e4])
def test_a_mask_masks_and_no_row_of_it_is_not_a_number(lowest: float) -> None:
    model = layer(lowest)
    x, mask = normal(3, 6, 16), attend(6, 4, 1)
    expected = run(model, x=x, attend=mask)[0]
    assert to_fp16(model).modified
    stored = float(model.graph.initializers["lowest"].const_value.numpy())  # type: ignore[union-attr]
    assert stored == max(lowest, -(2.0**15)) or abs(stored - lowest) < 8
    assert off(reference(model, x=x, attend=mask), expected) < TOLERANCE
    nothing = reference(model, x=10 * x, attend=attend(0, 0, 0))
    assert np.isfinite(nothing).all(), "a row without any key is finite, as it is in fp32"


def test_the_lowest_number_of_fp16_would_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_precision, "MASKED", -65504.0)
    model = layer()
    model.graph.initializers["stored"].const_value = ir.tensor(np.full((16, 16), 1, np.int8))
    model.graph.initializers["b"].const_value = ir.tensor(np.linspace(-9, 9, 16, dtype=np.float32))
    text_feeds = {"x": normal(3, 6, 16), "attend": attend(0, 0, 0)}
    to_fp16(model)
    (scores,) = (n for n in model.graph if n.name == "scores")
    negate = ir.node("Neg", [scores.outputs[0]], name="negative")
    negate.outputs[0].dtype, negate.outputs[0].name = HALF, "negative"
    (masked,) = (n for n in model.graph if n.name == "masked")
    model.graph.insert_before(masked, negate)
    masked.replace_input_with(0, negate.outputs[0])
    assert not np.isfinite(reference(model, **text_feeds)).all()


@pytest.mark.parametrize(
    ("body", "name"),
    [("y = MatMul(x, w)", "w"), ("y = Add(x, w)", "w"), ("h = Mul(x, w) p = Softmax(h) y = Add(p, w)", "w")],
)
@pytest.mark.parametrize("value", [65520.0, -3.4e38, np.inf, np.nan])
def test_constants_beyond_fp16_are_refused(body: str, name: str, value: float) -> None:
    weight = normal(4, 4)
    weight[1, 2] = value
    model = parse(f"agraph (float[4, 4] x) => (float[4, 4] y) {{ {body} }}", w=weight)
    with pytest.raises(InputError, match=rf"1 constants are beyond 65504.*{name}.*tensorrt.target=8.6"):
        to_fp16(model)


def test_layer_norms_of_large_inputs() -> None:
    text = "agraph (float[N, 64] x) => (float[N, 64] y) { h = Neg(x) y = LayerNormalization<axis = -1>(h, g, b) }"
    model = parse(text, g=normal(64), b=normal(64))
    x = 1e4 * normal(8, 64)
    expected = run(model, x=x)[0]
    assert to_fp16(model).modified
    (norm,) = (n for n in model.graph if n.op_type == "LayerNormalization")
    assert norm.attributes["stash_type"].as_int() == SINGLE.value, "mean and variance in fp32"
    assert np.square(x).mean() > 65504, "in fp16 the variance would be infinite"
    assert off(run(model, x=x)[0], expected) < 2e-3


DECOMPOSED = """
agraph (float[N, 64] x) => (float[N, 64] y) {
  h = Neg(x)
  m = ReduceMean(h, axes)
  d = Sub(h, m)
  d2 = Pow(d, two)
  v = ReduceMean(d2, axes)
  e = Add(v, eps)
  r = Sqrt(e)
  n = Div(d, r)
  y = Mul(n, g)
}"""


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_layer_norms_in_parts(size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = {"axes": np.array([-1]), "two": np.float32(2), "eps": np.float32(1e-12), "g": normal(64)}
    x = size * normal(8, 64)
    expected = run(parse(DECOMPOSED, **constants), x=x)[0]
    model = parse(DECOMPOSED, **constants)
    assert to_fp16(model).modified
    kinds = types(model)
    assert {n for n, kind in kinds.items() if kind == SINGLE} >= {"d2", "v", "e", "r"} and kinds["d"] == kinds[
        "n"
    ] == HALF
    assert off(reference(model, x=x), expected) < TOLERANCE
    monkeypatch.setattr(half_types, "islands", lambda model: iter(()))
    plain = parse(DECOMPOSED, **constants)
    to_fp16(plain)
    assert size == 1.0 or off(reference(plain, x=x), expected) > 0.1, "without the fp32 part it is wrong"


def test_a_softmax_of_large_scores() -> None:
    model = parse("agraph (float[N, 512] x) => (float[N, 512] y) { h = Neg(x) y = Softmax<axis = -1>(h) }")
    x = 1e4 * normal(8, 512)
    expected = run(model, x=x)[0]
    assert to_fp16(model).modified
    assert casts(model) == [("", "Neg"), ("Softmax", "")]
    assert off(reference(model, x=x), expected) < 2e-3


def test_the_post_condition_sees_a_cast_in_front_of_a_product() -> None:
    model = layer()
    to_fp16(model)
    (product,) = (n for n in model.graph if n.name == "h")
    cast = ir.node("Cast", [product.inputs[0]], attributes={"to": HALF.value}, name="extra")
    cast.outputs[0].dtype, cast.outputs[0].name = HALF, "extra"
    model.graph.insert_before(product, cast)
    product.replace_input_with(0, cast.outputs[0])
    assert list(to_fp16.ensures(model)) == ["extra after a DQ"]
