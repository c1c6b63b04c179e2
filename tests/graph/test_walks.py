"""Walks along a tensor: back to what it comes from, and on to whoever reads it, layout operators aside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from helpers.onnx_text import parse
from pipeline.graph.walks import back, only_read_by, pair_above, readers

SCALE = {"s": np.float32(0.1), "z": np.int8(0)}


def graph(body: str, outputs: str = "float[4, 4] y", **constants: np.ndarray) -> dict[str, ir.Value]:
    """Returns the values of a graph by name: of x [4, 4] and what the body computes."""
    model = parse(f"g (float[4, 4] x) => ({outputs}) {{ {body} }}", **SCALE, **constants)
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    return {str(value.name): value for value in values}


def test_back_goes_along_first_inputs_to_what_is_no_layout() -> None:
    found = graph("a = Relu(x) b = Transpose(a) c = Identity(b) y = Add(c, x)")
    path = back(found["c"])
    assert [node.name for node in path.passed] == ["c", "b"] and path.end is found["a"]
    assert path.node is not None and path.node.op_type == "Relu"
    assert back(found["x"]).node is None and back(found["x"]).passed == () and back(None).end is None
    through = back(found["y"], lambda node: True)
    assert [node.name for node in through.passed] == ["y", "c", "b", "a"] and through.end is found["x"]


def test_back_stops_at_an_operator_without_inputs() -> None:
    found = graph("a = Constant<value = float {0.5}>() y = Mul(x, a)")
    path = back(found["a"], lambda node: True)
    assert path.passed == () and path.node is not None and path.node.op_type == "Constant"


def test_a_pair_above_is_found_past_layout() -> None:
    found = graph("q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) t = Transpose(d) y = Relu(t)")
    pair = pair_above(found["t"])
    assert pair is not None and (pair.quantize.name, pair.dequantize.name) == ("q", "d")
    assert pair_above(found["y"]) is None and pair_above(found["x"]) is None and pair_above(None) is None


def test_stored_int8_or_another_maker_is_no_pair() -> None:
    stored = graph("d = DequantizeLinear(w, s, z) y = Add(x, d)", w=np.ones((4, 4), np.int8))
    assert pair_above(stored["d"]) is None
    cast = graph("q = Cast<to = 3>(x) d = DequantizeLinear(q, s, z) y = Relu(d)")
    assert pair_above(cast["d"]) is None


def test_readers_are_those_behind_layout() -> None:
    found = graph("a = Relu(x) b = Transpose(a) c = Identity(b) d = Exp(c) e = Neg(b) y = Add(a, d)")
    assert sorted(str(node.name) for node in readers(found["a"])) == ["d", "e", "y"]


def is_exp(node: ir.Node) -> bool:
    return node.op_type == "Exp"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Exp(a)", True),
        ("b = Exp(a) c = Exp(a) y = Add(b, c)", True),
        ("b = Exp(a) c = Neg(a) y = Add(b, c)", False),  # one of two is not enough
        ("b = Neg(a) c = Exp(a) y = Add(b, c)", False),
        ("b = Transpose(a) y = Exp(b)", True),
        ("b = Transpose(a) c = Exp(b) d = Neg(b) y = Add(c, d)", False),
        ("b = MaxPool<kernel_shape = [1, 1]>(a) y = Exp(b)", False),  # no layout
        ("b = Transpose(a) y = Exp(x)", False),  # nothing reads it in the end
        ("y = Exp(x)", False),
    ],
)
def test_only_some_operators_read_a_tensor(body: str, expected: bool) -> None:
    found = graph(f"a = Relu(x) {body}")
    assert only_read_by(found["a"], is_exp) is expected


def test_what_nothing_reads_is_as_one_asks() -> None:
    found = graph("a = Relu(x) b = Transpose(a) y = Exp(x)")
    for value in (found["a"], found["b"]):
        assert only_read_by(value, is_exp, empty=True) is True
        assert only_read_by(value, is_exp) is False


def test_anybody_may_read_an_output_of_the_graph() -> None:
    found = graph("a = Relu(x) y = Exp(a)", "float[4, 4] y, float[4, 4] a")
    assert only_read_by(found["a"], is_exp) is False and only_read_by(found["y"], is_exp, empty=True) is False


def test_other_operators_may_be_passed() -> None:
    found = graph("a = Relu(x) b = Neg(a) y = Exp(b)")
    accepts: Callable[[ir.Node], bool] = is_exp
    assert only_read_by(found["a"], accepts) is False and only_read_by(found["a"], accepts, {"Neg"}) is True
