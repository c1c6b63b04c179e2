"""Element types around Q/DQ: integers, half precision, casts."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.lint_graphs import linear, pair, said


@pytest.mark.parametrize(
    ("to", "found"), [(6, "int32"), (7, "int64"), (2, "uint8"), (3, "int8"), (9, "bool"), (10, ""), (1, "")]
)
def test_quantized_integers(to: int, found: str, tmp_path: Path) -> None:
    text = linear(f"i = Cast<to = {to}>(x) {pair('i', into='x')}")
    assert said(tmp_path, "Q17", text) == ({"x_q": f"quantizes {found}"} if found else {})


def test_attributes_of_later_operator_sets(tmp_path: Path) -> None:
    text = linear(w=pair("w", "s_square", "z", axis=1).replace("axis = 1", "axis = 1, block_size = 0"))
    assert said(tmp_path, "Q17", text, "8.6", opset=21) == {}
    typed = linear("x_q = QuantizeLinear<output_dtype = 3>(x, s, z) x_d = DequantizeLinear(x_q, s, z)")
    assert said(tmp_path, "Q17", typed, "8.6", opset=21) == {"x_q": "output_dtype 3"}
    assert said(tmp_path, "Q17", typed, "10", opset=21) == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (linear(), {None: "float32 throughout"}),
        (linear(end="t = Cast<to = 10>(h) y = Relu(t)"), {}),
        (linear(end="t = Cast<to = 16>(h) y = Relu(t)"), {}),
        ("g (float[4] x) => (float[4] y) { y = Relu(x) }", {}),
        (linear().replace("float[", "double[").replace("x_d, w_d", "x, x"), {}),
    ],
    ids=["float32", "float16", "bfloat16", "no product", "float64 weights aside"],
)
def test_half_precision_somewhere(text: str, found: dict[str | None, str], tmp_path: Path) -> None:
    if "double" in text:
        text = "g (double[4, 4] x) => (double[4, 4] y) { y = MatMul(x, x) }"
    assert said(tmp_path, "Q31", text) == found
    assert said(tmp_path, "Q31", text, "8.6") == {}


@pytest.mark.parametrize(
    ("product", "found"),
    [
        ("t = Cast<to = 10>(x_d) h = MatMul(t, w_d)", {"t": "behind x_d"}),
        ("i = Cast<to = 6>(x) t = Cast<to = 10>(x_d) h = MatMul(t, w_d)", {"t": "behind x_d"}),
        ("t = Cast<to = 16>(x_d) h = MatMul(t, w_d)", {"t": "behind x_d"}),
        ("u = Transpose(x_d) t = Cast<to = 1>(u) h = MatMul(t, w_d)", {"t": "behind x_d"}),
        ("t = Cast<to = 6>(x_d) h = MatMul(x_d, w_d)", {}),
        (f"t = Cast<to = 1>(x) {pair('t', into='u')} h = MatMul(u_d, w_d)", {"t": "before u_q"}),
        (f"t = Cast<to = 6>(x) v = Cast<to = 1>(t) {pair('v', into='u')} h = MatMul(u_d, w_d)", {}),
        (
            "t = Cast<to = 1>(s) u_q = QuantizeLinear(x, t, z) u_d = DequantizeLinear(u_q, t, z) h = MatMul(u_d, w_d)",
            {},
        ),
        ("t = Cast<to = 10>(x) u = Relu(t) h = MatMul(x_d, w_d)", {}),
    ],
)
def test_casts_beside_pairs(product: str, found: dict[str, str], tmp_path: Path) -> None:
    assert said(tmp_path, "Q32", linear(product=product)) == found


def test_inputs_of_int64(tmp_path: Path) -> None:
    text = linear(f"i = Cast<to = 1>(x) {pair('i', into='x')} j = Add(x, x)").replace("float[4", "int64[4")
    assert said(tmp_path, "Q38", text, "8.6") == {"i": "input x", "j": "input x"}
    assert said(tmp_path, "Q38", text, "10") == {} and said(tmp_path, "Q38", linear(), "8.6") == {}
    assert said(tmp_path, "Q38", linear(end="t = Reshape(h, to) y = Relu(t)"), "8.6") == {}, (
        "shapes are int64 everywhere"
    )
