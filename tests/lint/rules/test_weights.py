"""Weights and biases: along which axis, by which path, in which type."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.lint_graphs import CONV, conv, linear, pair, said


def test_channels_of_activations_and_of_weights_without_an_axis(tmp_path: Path) -> None:
    activation = linear(pair("x", "s32", "z32", axis=1))
    assert said(tmp_path, "Q09", activation) == {"x_q": "32 scales"} and said(tmp_path, "Q10", activation) == {}
    bare = linear(w=pair("w", "s32", "z32"))
    assert said(tmp_path, "Q10", bare) == {"w_q": "32 scales", "w_d": "32 scales"}
    assert said(tmp_path, "Q09", bare) == {} and said(tmp_path, "Q10", linear(pair("x", "s_list"))) == {}


@pytest.mark.parametrize(
    ("w", "product", "found"),
    [
        (pair("w", "s32", "z32", axis=-2), "h = MatMul(x_d, w_d)", "axis -2, 1 for MatMul h"),
        (pair("w", "s32", "z32", axis=-1), "h = MatMul(x_d, w_d)", ""),
        (pair("w", "s32", "z32", axis=1), "h = MatMul(w_d, x_d)", "axis 1, 0 for MatMul h"),
        (pair("w", "s32", "z32", axis=0), "h = MatMul(w_d, x_d)", ""),
        (pair("w", "s32", "z32", axis=1), "h = Gemm(w_d, x_d)", ""),  # of a Gemm the second factor is stored
        (pair("w"), "h = MatMul(x_d, w_d)", ""),
        (pair("w", "s32", "z32"), "h = MatMul(x_d, w_d)", ""),  # Q10's
        (pair("w", "s32", "z32", axis=0), "t = Relu(w_d) h = MatMul(x_d, t)", ""),  # nothing is said
        (pair("ones32", "s32", "z32", axis=0, into="w"), "h = MatMul(x_d, w_d)", ""),  # a vector has no channels
    ],
)
def test_the_output_channel(w: str, product: str, found: str, tmp_path: Path) -> None:
    text = linear(w=w, product=product)
    if "(w_d, x_d)" in product:
        text = text.replace("[4, 32]", "[32, 4]")
    assert said(tmp_path, "Q11", text) == ({"w_d": found} if found else {})


@pytest.mark.parametrize(
    ("axis", "steps", "found"),
    [
        (2, "t = Transpose<perm = [1, 2, 0]>(w_d)", "axis 2, 0 for MatMul h"),
        (0, "t = Transpose<perm = [1, 2, 0]>(w_d)", ""),
        (0, "u = Transpose<perm = [0, 2, 1]>(w_d) t = Transpose<perm = [1, 2, 0]>(u)", ""),
        (1, "u = Transpose<perm = [0, 2, 1]>(w_d) t = Transpose<perm = [2, 0, 1]>(u)", "axis 1, 2 for MatMul h"),
        (0, "t = Transpose(w_d)", ""),
        (2, "t = Transpose(w_d)", "axis 2, 0 for MatMul h"),
    ],
)
def test_the_output_channel_behind_transposes(axis: int, steps: str, found: str, tmp_path: Path) -> None:
    text = linear(w=pair("cube", "s4", "z", axis=axis, into="w"), product=f"{steps} h = MatMul(x_d, t)")
    text = text.replace("[4, 32]", "[4, 4]").replace("[A, B]", "[A, B, C]")
    assert said(tmp_path, "Q11", text) == ({"w_d": found} if found else {})


@pytest.mark.parametrize(
    ("w", "found"),
    [
        ("w_q = QuantizeLinear(w, s, z) w_d = Cast<to = 1>(w_q)", "a Q without DQ"),
        (f"{pair('w', into='a')} b = DequantizeLinear(a_q, s, z) c_q = QuantizeLinear(b, s, z) "
         "w_d = DequantizeLinear(c_q, s, z)", "2 Q and 2 DQ"),
        ("w_d = DequantizeLinear(w8, s, z)", ""),
        ("t = Transpose(w8) w_d = DequantizeLinear(t, s, z)", ""),  # who reads stored int8 is Q14's
        ("w_q = QuantizeLinear(w, s, z) t = Reshape(w_q, square) w_d = DequantizeLinear(t, s, z)",
         "Reshape between Q and DQ"),
        (f"t = Reshape(w, square) {pair('t', into='w')}", "Reshape before Q"),
        (f"t = Transpose(w) u = Reshape(t, square) {pair('u', into='w')}", "Transpose before Q"),  # the first of two
        (f"{pair('w', into='m')} w_d = Mul(m_d, ones32)", "Mul on the path"),
        (f"{pair('w', into='m')} w_d = Mul(ones32, m_d)", "Mul on the path"),
        (pair("w"), ""),
        (f"{pair('w', into='m')} t = Transpose(m_d) w_d = Transpose(t)", ""),
        (f"t = Mul(w, ones32) {pair('t', into='w')}", "Mul on the path"),
    ],
)  # fmt: skip
def test_the_path_of_weights(w: str, found: str, tmp_path: Path) -> None:
    assert said(tmp_path, "Q15", linear(w=w)) == ({"h": found} if found else {})


def test_the_path_of_the_first_factor_is_looked_at_too(tmp_path: Path) -> None:
    text = linear(w=f"{pair('w', into='m')} w_d = Mul(m_d, s)", product="h = MatMul(w_d, x_d)")
    assert said(tmp_path, "Q15", text.replace("[4, 32]", "[32, 4]")) == {"h": "Mul on the path"}


@pytest.mark.parametrize(
    ("product", "target", "found"),
    [
        (f"b_d = DequantizeLinear(b32, s) {CONV}(x_d, c_d, b_d)", "10", {"b_d": "bias of h"}),
        (f"{pair('b')} {CONV}(x_d, c_d, b_d)", "10", {"b_d": "bias of h"}),
        (f"{CONV}(x_d, c_d, b32)", "10", {"h": "int32 bias"}),
        (f"{CONV}(x_d, c_d, b)", "8.6", {}),
        (f"{CONV}(x_d, c_d)", "8.6", {}),
        (f"t = Exp(b) {CONV}(x_d, c_d, t)", "8.6", {"h": "the bias is not stored"}),
        (f"t = Exp(b) {CONV}(x_d, c_d, t)", "10", {}),
        (f"b_d = DequantizeLinear(b32, s) t = Exp(b_d) {CONV}(x_d, c_d)", "10", {"b_d": "DQ on int32"}),
        (f"b_d = DequantizeLinear(b32, s) t = Reshape(b_d, sixteen) {CONV}(x_d, c_d, t)", "10", {"b_d": "bias of h"}),
    ],
)
def test_biases(product: str, target: str, found: dict[str, str], tmp_path: Path) -> None:
    assert said(tmp_path, "Q16", conv(product=product), target) == found


def test_a_gemm_may_add_what_is_not_stored(tmp_path: Path) -> None:
    text = linear(product="t = Exp(ones32) h = Gemm(x_d, w_d, t)")
    assert said(tmp_path, "Q16", text, "8.6") == {}
    assert said(tmp_path, "Q16", text.replace("Exp(ones32)", "DequantizeLinear(b32, s)")) == {"t": "bias of h"}
