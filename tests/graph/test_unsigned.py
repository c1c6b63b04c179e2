"""Which pairs become unsigned, and what they become."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from helpers.onnx_text import parse, run, same_after
from pipeline.graph.unsigned import unsigned_activations

X = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
W = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)


def model(body: str, **constants: np.ndarray) -> ir.Model:
    scales = {"s": np.float32(0.02), "z": np.int8(0), "s4": np.full(4, 0.02, np.float32), "z4": np.zeros(4, np.int8)}
    return parse(f"g (float[4, 4] x) => (float[4, 4] y) {{ {body} }}", **{**scales, "w": W, **constants})


def pair(x: str, name: str) -> str:
    return f"{name}_q = QuantizeLinear({x}, s, z) {name} = DequantizeLinear({name}_q, s, z)"


def unsigned(found: ir.Model) -> set[str]:
    """Returns the names of the Q that make uint8."""
    quantizers = [node for node in found.graph if node.op_type == "QuantizeLinear"]
    return {str(node.name) for node in quantizers if node.outputs[0].dtype == ir.DataType.UINT8}


CASES: dict[str, tuple[str, set[str]]] = {
    "a linear layer": (f"{pair('x', 'a')} {pair('w', 'b')} y = MatMul(a, b)", {"a_q"}),
    "weights first": (f"{pair('w', 'b')} {pair('x', 'a')} y = MatMul(a, b)", {"a_q"}),
    "weights as they are": (f"{pair('x', 'a')} y = MatMul(a, w)", {"a_q"}),
    "two activations": (f"t = Relu(x) {pair('x', 'a')} {pair('t', 'b')} y = MatMul(a, b)", set()),
    "two activations behind layout": (
        f"t = Relu(x) {pair('x', 'a')} {pair('t', 'b')} c = Transpose(b) y = MatMul(a, c)", set()),
    "one that is read by both kinds": (
        f"t = Relu(x) {pair('x', 'a')} {pair('t', 'b')} c = MatMul(a, b) d = MatMul(a, w) y = Add(c, d)", {"a_q"}),
    "another reader": (f"{pair('x', 'a')} y = Relu(a)", {"a_q"}),
    "weights behind layout": (
        f"{pair('x', 'a')} {pair('w', 'b')} c = Transpose(b) y = MatMul(a, c)", {"a_q"}),
    "a scale a channel": (
        "a_q = QuantizeLinear<axis = 1>(x, s4, z4) a = DequantizeLinear<axis = 1>(a_q, s4, z4) y = Relu(a)", set()),
    "a gemm of two": (f"t = Relu(x) {pair('x', 'a')} {pair('t', 'b')} y = Gemm(a, b)", {"a_q", "b_q"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_activations_become_unsigned_but_for_products_of_two(case: str) -> None:
    body, expected = CASES[case]
    found = model(body)
    assert same_after(unsigned_activations, found, x=X) is bool(expected)
    assert unsigned(found) == expected
    assert unsigned_activations(found).modified is False, "once and for all"


def test_the_zero_point_is_128_and_codes_are_shifted_by_it() -> None:
    found = model(f"{pair('x', 'a')} y = Relu(a)")
    unsigned_activations(found)
    (zero,) = {n.inputs[2] for n in found.graph if n.op_type in ("QuantizeLinear", "DequantizeLinear")}
    assert zero is not None and zero.const_value is not None and zero.name == "a.zero_point_uint8"
    value = zero.const_value.numpy()
    assert value.dtype == np.uint8 and value == 128
    step = np.float32(0.02)
    expected = np.maximum(np.clip(np.rint(X / step), -128, 127), 0) * step
    np.testing.assert_array_equal(run(found, x=X)[0], expected)


def test_another_zero_point_moves_along() -> None:
    found = model(f"{pair('x', 'a')} y = Relu(a)", z=np.int8(-7))
    assert same_after(unsigned_activations, found, x=X) is True and unsigned(found) == {"a_q"}
