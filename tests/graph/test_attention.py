"""Attention for TensorRT: which blocks stay int8, and pairs directly in front of their products."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common
import pytest

from helpers.onnx_text import normal, operators, parse, run, same_after
from pipeline.graph import BOUNDS, dropped, find_pairs, keep_pairs, set_scales
from pipeline.graph.attention import keep_fused_attention
from pipeline.graph.half_scales import half_scales
from pipeline.graph.hoist import hoist_above_layout
from pipeline.graph.merge import merge_equal_pairs
from pipeline.graph.pairs import scales_of
from pipeline.graph.sink_pairs import sink_below_layout

Z = np.int8(0)
POINTS = ("queries", "keys", "probabilities", "values")


def pair(name: str, source: str) -> str:
    return f"{name}_q = QuantizeLinear({source}, s, z)  {name} = DequantizeLinear({name}_q, s, z)"


def attention(
    queries: int | str = 8, keys: int | str = 6, head: int = 16, *, between: str = "Add(scores, m)"
) -> ir.Model:
    """Returns a block of 2 heads with a pair at every point, `dense` behind it, and its shapes."""
    text = f"""
agraph (float[N, {queries}, {2 * head}] q, float[N, {keys}, {2 * head}] k, float[N, {keys}, {2 * head}] v,
        float[N, 1, 1, {keys}] m) => (float[N, {queries}, 3] y) {{
  q_heads = Reshape(q, heads)  q_first = Transpose<perm = [0, 2, 1, 3]>(q_heads)  {pair("queries", "q_first")}
  k_heads = Reshape(k, heads)  k_first = Transpose<perm = [0, 2, 1, 3]>(k_heads)  {pair("keys", "k_first")}
  v_heads = Reshape(v, heads)  v_first = Transpose<perm = [0, 2, 1, 3]>(v_heads)  {pair("values", "v_first")}
  k_last = Transpose<perm = [0, 1, 3, 2]>(keys)
  scores = MatMul(queries, k_last)
  masked = {between}
  soft = Softmax<axis = -1>(masked)
  {pair("probabilities", "soft")}
  context = MatMul(probabilities, values)
  joined = Transpose<perm = [0, 2, 1, 3]>(context)
  flat = Reshape(joined, width)
  {pair("dense", "flat")}
  y = MatMul(dense, w)
}}"""
    constants = {"s": np.float32(0.02), "z": Z, "heads": np.array([0, 0, 2, head]), "width": np.array([0, 0, 2 * head])}
    if "eighth" in between:
        constants["eighth"] = np.float32(0.125)
    model = parse(text, **constants, w=normal(2 * head, 3))
    common.ShapeInferencePass()(model)
    return model


def feeds(queries: int = 8, keys: int = 6, head: int = 16) -> dict[str, np.ndarray]:
    mask = np.where(np.arange(keys) < keys - 2, 0, -3.4e38).astype(np.float32).reshape(1, 1, 1, keys)
    width = 2 * head
    return {"q": normal(1, queries, width), "k": normal(1, keys, width), "v": normal(1, keys, width), "m": mask}


def names(model: ir.Model) -> set[str]:
    return {name for found in find_pairs(model) for name in found.names}


@pytest.mark.parametrize("sizes", [(8, 6, 16), (512, 512, 64), (1, 512, 32)])
@pytest.mark.parametrize("between", ["Add(scores, m)", "Add(m, scores)"])
def test_a_whole_block_that_fits_stays(sizes: tuple[int, int, int], between: str) -> None:
    model = attention(*sizes, between=between)
    assert not keep_fused_attention(model).modified
    assert names(model) == {*POINTS, "dense"} and dropped(model) == {}


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ({"head": 24}, "head size 24, not one of 16, 32, 64"),
        ({"queries": 513}, "513 queries, 512 at most"),
        ({"keys": 1024}, "1024 keys, 512 at most"),
        ({"queries": "S"}, "an unknown number of queries, 512 at most"),
        ({"keys": "T"}, "an unknown number of keys, 512 at most"),
        ({"between": "Mul(scores, eighth)"}, "a Mul between the first product and the softmax"),
        ({"between": "Div(scores, eighth)"}, "a Div between the first product and the softmax"),
    ],
)
def test_a_block_that_tensorrt_would_not_fuse_becomes_float(block: dict[str, Any], why: str) -> None:
    model = attention(**block)
    assert keep_fused_attention(model).modified
    assert names(model) == {"dense"}, "both products are float, the linear layer behind them is not"
    assert dropped(model) == dict.fromkeys(POINTS, f"no int8 fused attention: {why}")
    assert not keep_fused_attention(model).modified, "nothing is left to drop"


@pytest.mark.parametrize("off", [*POINTS, "dense"])
def test_one_point_that_is_float_makes_all_float(off: str) -> None:
    model = attention()
    keep_pairs(model, {*POINTS, "dense"} - {off})
    assert keep_fused_attention(model).modified
    assert not names(model) & set(POINTS) and set(dropped(model)) == {*POINTS} - {off}
    missing = "context" if off == "dense" else off
    assert set(dropped(model).values()) == {f"no int8 fused attention: float {missing}"}


def test_a_context_that_something_else_reads_in_float_makes_all_float() -> None:
    model = attention()
    (softmax,) = (n for n in model.graph if n.op_type == "Softmax")
    context = next(n for n in model.graph if n.name == "context")
    model.graph.append(ir.node("Neg", [context.outputs[0]], name="reader"))
    assert softmax.name == "soft" and keep_fused_attention(model).modified


def test_a_float_block_is_no_matter() -> None:
    model = attention(queries=4096)
    keep_pairs(model, {"dense"})
    assert not keep_fused_attention(model).modified and dropped(model) == {}


@pytest.mark.parametrize(("longest", "stays"), [(128, True), (512, True), (513, False)])
def test_a_dynamic_length_is_judged_by_its_bound(longest: int, stays: bool) -> None:
    model = attention("S", "S", 64)
    model.meta[BOUNDS] = {"S": longest}
    assert keep_fused_attention(model).modified is not stays
    assert (set(POINTS) <= names(model)) is stays


def test_dropping_is_the_same_as_placing_without() -> None:
    dropped_, placed, inputs = attention(head=24), attention(head=24), feeds(head=24)
    placed.graph.initializers["w"].const_value = dropped_.graph.initializers["w"].const_value
    keep_fused_attention(dropped_)
    keep_pairs(placed, {"dense"})
    np.testing.assert_array_equal(run(dropped_, **inputs)[0], run(placed, **inputs)[0])


def test_one_block_of_two_is_dropped_and_its_neighbour_stays() -> None:
    model = attention()
    other = attention(head=24)
    for value in [
        *other.graph.initializers.values(),
        *(v for n in other.graph for v in n.outputs),
        *other.graph.inputs,
    ]:
        value.name = f"b_{value.name}"
    nodes, inputs, constants = list(other.graph), list(other.graph.inputs), list(other.graph.initializers.values())
    for found in find_pairs(other):
        for node in (found.quantize, found.dequantize):
            node.metadata_props["quantizer"] = f"b_{found.names[0]}"
    other.graph.outputs.clear()
    other.graph.remove(nodes)
    other.graph.inputs.clear()
    other.graph.initializers.clear()
    for constant in constants:
        model.graph.register_initializer(constant)
    model.graph.inputs.extend(inputs)
    model.graph.extend(nodes)
    assert keep_fused_attention(model).modified
    assert set(POINTS) <= names(model) and set(dropped(model)) == {f"b_{name}" for name in POINTS}


# --- pairs below layout ---


def dequantized(model: ir.Model, name: str) -> list[str]:
    """Returns the operators that make the operands of a node."""
    (node,) = (n for n in model.graph if n.name == name)
    return [v.producer().op_type if v is not None and v.producer() else "constant" for v in node.inputs]  # type: ignore[union-attr]


def test_every_product_reads_its_pairs_directly() -> None:
    model = attention()
    assert dequantized(model, "scores") == ["DequantizeLinear", "Transpose"]
    assert same_after(sink_below_layout, model, **feeds())
    assert dequantized(model, "scores") == ["DequantizeLinear"] * 2
    assert dequantized(model, "context") == ["DequantizeLinear"] * 2
    perms = [list(n.attributes["perm"].as_ints()) for n in model.graph if n.op_type == "Transpose"]
    assert sorted(perms) == [[0, 2, 1, 3]] * 3 + [[0, 2, 3, 1]], "the keys are transposed once, for both reasons"
    assert not sink_below_layout(model).modified, "the second time there is nothing to do"


def test_hoisting_would_part_them() -> None:
    model = attention()
    assert same_after(hoist_above_layout, model, **feeds())
    assert "Transpose" in dequantized(model, "scores")
    assert same_after(sink_below_layout, model, **feeds())
    assert dequantized(model, "scores") == ["DequantizeLinear"] * 2, "sinking undoes it"


def test_several_readers_get_a_pair_each() -> None:
    text = f"""
agraph (float[4, 6] x) => (float[6, 6] y, float[24] f, float[4, 6] n) {{
  h = Relu(x)
  {pair("a", "h")}
  t = Transpose<perm = [1, 0]>(a)
  y = MatMul(t, a)
  u = Transpose<perm = [1, 0]>(a)  v = Reshape(u, flat)  f = Neg(v)
  n = Neg(a)
}}"""
    model = parse(text, s=np.float32(0.02), z=Z, flat=np.array([24]))
    assert same_after(sink_below_layout, model, x=normal(4, 6))
    assert [found.names for found in find_pairs(model)].count(("a",)) == 3
    assert dequantized(model, "y") == ["DequantizeLinear"] * 2 and dequantized(model, "f") == ["DequantizeLinear"]
    every = [n.name for n in model.graph] + [v.name for n in model.graph for v in n.outputs]
    assert len(set(every)) >= len(list(model.graph)) and len({n.name for n in model.graph}) == len(list(model.graph))


def test_a_stored_weight_is_transposed_and_its_axis_with_it() -> None:
    text = """
agraph (float[N, 5] x) => (float[N, 3] y) {
  w_q = QuantizeLinear<axis = 0>(weight, s, z)
  w = DequantizeLinear<axis = 0>(w_q, s, z)
  t = Transpose<perm = [1, 0]>(w)
  y = MatMul(x, t)
}"""
    weight = normal(3, 5)
    model = parse(text, weight=weight, s=np.abs(weight).max(1) / np.float32(127), z=np.zeros(3, np.int8))
    assert same_after(sink_below_layout, model, x=normal(4, 5))
    assert operators(model) == ["QuantizeLinear", "DequantizeLinear", "MatMul"]
    (found,) = find_pairs(model)
    assert found.axis == 1 and found.source.const_value is not None
    np.testing.assert_array_equal(found.source.const_value.numpy(), weight.T)
    assert list(scales_of(model)) == ["w"]


@pytest.mark.parametrize(
    "body",
    [
        f"{pair('a', 'x')} y = Transpose<perm = [1, 0]>(a)",
        "a_q = QuantizeLinear<axis = 1>(x, sc, zc) a = DequantizeLinear<axis = 1>(a_q, sc, zc) "
        "r = Reshape(a, to) y = Neg(r)",
        f"{pair('a', 'x')} r = Relu(a) t = Transpose<perm = [1, 0]>(r) y = Neg(t)",
    ],
    ids=["graph-output", "channels-in-a-reshape", "not-layout"],
)
def test_pairs_that_stay_above(body: str) -> None:
    every = {"s": np.float32(0.1), "z": Z, "sc": np.full(4, 0.1, np.float32), "zc": np.zeros(4, np.int8)}
    every["to"] = np.array([4, 6])
    used = {name: value for name, value in every.items() if f"{name}," in body or f"{name})" in body}
    model = parse(f"agraph (float[6, 4] x) => (float[4, 6] y) {{ {body} }}", **used)
    before = operators(model)
    assert not same_after(sink_below_layout, model, x=normal(6, 4)) and operators(model) == before


def test_queries_keys_and_values_of_one_tensor_share_one_pair() -> None:
    linear = " ".join(f"{pair(n, 'h')} {n}_w = MatMul({n}, w)" for n in ("a", "b", "c"))
    text = f"agraph (float[N, 4] x) => (float[N, 4] y) {{ h = Relu(x) {linear} t = Add(a_w, b_w) y = Add(t, c_w) }}"
    model = parse(text, s=np.float32(0.02), z=Z, w=normal(4, 4))
    sink_below_layout(model)
    assert same_after(merge_equal_pairs, model, x=normal(3, 4))
    (found,) = find_pairs(model)
    assert found.names == ("a", "b", "c") and len(found.dequantize.outputs[0].uses()) == 3


def test_an_operand_too_fine_for_fp16_takes_the_whole_block_with_it() -> None:
    model = attention()
    usual = np.float32(0.02)
    set_scales(model, {**dict.fromkeys((*POINTS, "dense"), usual), "keys": np.float32(1e-6)})
    assert half_scales(model).modified
    assert names(model) == {"probabilities", "values", "dense"}, "the first product has become float"
    assert keep_fused_attention(model).modified
    assert names(model) == {"dense"} and set(dropped(model)) == set(POINTS)
    assert dropped(model)["queries"].startswith("stays float: the step of keys")
