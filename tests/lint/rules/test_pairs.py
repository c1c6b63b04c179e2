"""Q and DQ as pairs: who reads int8, what is wasted, what is written twice, what stands at the ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.lint_graphs import CONV, GELU_IN_PAIRS, conv, linear, pair, said


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (linear(product="h = MatMul(x_d, w_d) i = Relu(x_q)"), {"i": "Relu reads the int8 of x_q"}),
        (linear(product="h = MatMulInteger(x_q, w_q)"), {}),  # Q12's
        (linear().replace("y)", "y, int8[4, 32] x_q)"), {"x_q": "int8 output of the graph"}),
        (linear("x_q = QuantizeLinear(x, s, z) x_d = DequantizeLinear(x_q, s, z5)"),
         {"x_d": "other scale, zero point or axis than x_q"}),
        (linear(w="w_q = QuantizeLinear<axis = 1>(w, s32, z32) w_d = DequantizeLinear<axis = 0>(w_q, s32, z32)"),
         {"w_d": "other scale, zero point or axis than w_q"}),
        (linear(end="k = Transpose(w8) y = Relu(h)"), {"k": "Transpose reads stored int8"}),
        (linear(w="w_d = DequantizeLinear(w8, s, z)"), {}),
        (linear(end="k = MatMulInteger(w8, w8) y = Relu(h)"), {}),
        (linear(end="k = DequantizeLinear(z32, s, z) y = Relu(h)"), {}),
        (linear(end="k = DequantizeLinear(b32, w8, z) y = Relu(h)"), {"k": "DequantizeLinear reads stored int8"}),
        (linear(end="k = Add(z, z) y = Relu(h)"), {"k": "Add reads stored int8"}),
    ],
)  # fmt: skip
def test_int8_is_only_dequantized(text: str, found: dict[str, str], tmp_path: Path) -> None:
    assert said(tmp_path, "Q14", text) == found


WASTED: dict[str, tuple[str, dict[str, str]]] = {
    "softmax and layer norm": (
        linear(end=f"{pair('h')} t = Softmax(h_d) y = LayerNormalization(h_d, ones32)"),
        {"h_d": "LayerNormalization, Softmax"}),
    "one of two readers": (linear(end=f"{pair('h')} t = Softmax(h_d) y = MatMul(h_d, w_d)"), {}),
    "no reader": (linear(end=f"{pair('h')} y = Relu(h)"), {}),  # Q35's
    "weights": (linear(w=f"{pair('w')} t = Exp(w_d)"), {}),
    "before a product (Q19)": (linear(product="t = Div(x_d, s) h = MatMul(t, w_d)"), {}),
    "behind a convolution (Q24)": (conv(end=f"{pair('h')} y = Tanh(h_d)"), {}),
    "inside gelu (Q34)": (linear(end=GELU_IN_PAIRS), {}),
}  # fmt: skip


@pytest.mark.parametrize("case", WASTED)
def test_pairs_for_float_operators(case: str, tmp_path: Path) -> None:
    text, found = WASTED[case]
    assert said(tmp_path, "Q26", text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (linear(end=f"y = Relu(h) {pair('h')}"), {"h_d": "nothing reads it"}),
        (linear(end="y = Relu(h) h_q = QuantizeLinear(h, s, z)"), {"h_q": "nothing reads it"}),
        (linear(end=f"r = Relu(h) {pair('r')} y = Identity(r_d)"), {}),
        (linear(product=f"t = Transpose(x_d) v = Transpose(t) {pair('v', 's2', into='u')} h = MatMul(u_d, w_d)"),
         {"u_q": "quantizes x_d again with another scale"}),
        (linear(product=f"{pair('x_d', into='u')} h = MatMul(u_d, w_d)"), {}),
        (linear(product=f"t = Exp(x_d) {pair('t', 's2')} h = MatMul(t_d, w_d)"), {}),
        (linear(product=f"{pair('x', into='u')} {pair('x', into='v')} k = MatMul(u_d, w_d) l = MatMul(v_d, w_d) "
                "h = MatMul(x_d, w_d)", end="m = Max(h, k) y = Max(m, l)"), {"u_q": "equals x_q", "v_q": "equals x_q"}),
        (linear(product=f"{pair('x', 's2', into='u')} k = MatMul(u_d, w_d) h = MatMul(x_d, w_d)", end="y = Max(h, k)"),
         {}),  # Q28's
    ],
)  # fmt: skip
def test_superfluous_pairs(text: str, found: dict[str, str], tmp_path: Path) -> None:
    assert said(tmp_path, "Q35", text) == found


@pytest.mark.parametrize(
    ("end", "found"),
    [
        ("t = Add(h, x) y = Softmax(t)", {}),  # of two results: no bias
        ("t = Softmax(h) y = Sigmoid(t)", {"h": "final classifier"}),
        ("t = Softmax(h) u = Exp(h) y = Max(t, u)", {}),
        ("y = Identity(h)", {"h": "final classifier"}),
        (f"{pair('table')} r = Gather<axis = 0>(table_d, picked) y = Max(h, r)", {"table_d": "embedding r"}),
        (f"{pair('h')} t = Gather(picked, h_d) y = Exp(t)", {}),
        (f"r = Relu(h) {pair('r')} y = Identity(r_d)", {"r_d": "output of the graph"}),
    ],
)
def test_pairs_at_the_ends(end: str, found: dict[str, str], tmp_path: Path) -> None:
    assert said(tmp_path, "Q36", linear(end=end)) == found


@pytest.mark.parametrize(
    "product", ["h = MatMul(x_d, w)", f"{pair('x', into='u')} t = Transpose(u_d) h = MatMul(x_d, t)"]
)
def test_a_float_product_or_one_of_activations_is_no_classifier(product: str, tmp_path: Path) -> None:
    assert said(tmp_path, "Q36", linear(product=product, end="y = Softmax(h)")) == {}


def test_a_resized_map_of_classes_is_the_final_classifier(tmp_path: Path) -> None:
    end = 'y = Resize<mode = "linear", coordinate_transformation_mode = "asymmetric">(h, , twice)'
    assert said(tmp_path, "Q36", conv(product=f"{CONV}(x_d, c_d, b)", end=end)) == {"h": "final classifier"}
