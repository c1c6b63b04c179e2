"""Products: which factors are quantized, what stands between, and sizes at the borders of the rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.lint_graphs import CONV, conv, linear, pair, said, write
from pipeline.lint import lint


@pytest.mark.parametrize(
    ("product", "found"),
    [
        ("h = MatMul(x_d, w)", "second factor is float"),
        ("h = MatMul(x, w_d)", "first factor is float"),
        ("h = MatMul(x, w)", ""),
        ("h = MatMul(x_d, w_d)", ""),
        ("t = Mul(x_d, s) h = MatMul(t, w_d)", ""),  # Q19's
    ],
)
def test_half_a_product(product: str, found: str, tmp_path: Path) -> None:
    assert said(tmp_path, "Q18", linear(product=product)) == ({"h": found} if found else {})


@pytest.mark.parametrize(
    ("product", "found"),
    [
        ("t = Mul(x_d, s) h = MatMul(t, w_d)", {"t": "before h"}),
        ("t = Mul(x_d, s) u = Mul(w_d, s) h = MatMul(t, u)", {"t": "before h", "u": "before h"}),
        ("t = Mul(x_d, s) h = MatMul(t, w)", {}),
        ("t = Mul(s, ones32) h = MatMul(x_d, t)", {}),  # of constants alone: stored weights
        ("t = Softmax(x_d) h = MatMul(t, w_d)", {}),  # float in any case
    ],
)
def test_what_keeps_dq_from_its_product(product: str, found: dict[str, str], tmp_path: Path) -> None:
    assert said(tmp_path, "Q19", linear(product=product)) == found


GROUPS: dict[str, tuple[str, str, str]] = {
    "depthwise": ("dw", "group = 16", "16 groups of 1 and 1 channels"),
    "four": ("g4", "group = 4", ""),
    "one": ("c", "group = 1", ""),
    "one of odd size": ("c6", "group = 1", ""),
    "two of eight": ("g8", "group = 2", ""),
    "odd outputs": ("g_odd", "group = 2", "2 groups of 3 and 8 channels"),
    "odd inputs": ("g_two", "group = 8", "8 groups of 4 and 2 channels"),
}


@pytest.mark.parametrize("case", GROUPS)
def test_groups_of_four(case: str, tmp_path: Path) -> None:
    weights, group, found = GROUPS[case]
    text = conv(pair(weights, into="c"), f"{CONV[:-1]}, {group}>(x_d, c_d)")
    assert said(tmp_path, "Q29", text) == ({"h": found} if found else {})


def test_a_grouped_convolution_in_float_is_fine(tmp_path: Path) -> None:
    assert said(tmp_path, "Q29", conv("", f"{CONV[:-1]}, group = 16>(x_d, dw)")) == {}
    unknown = conv("k = Reshape(skip, to) k_q = QuantizeLinear(k, s, z) c_d = DequantizeLinear(k_q, s, z)",
                   f"{CONV[:-1]}, group = 16>(x_d, c_d)")  # fmt: skip
    assert said(tmp_path, "Q29", unknown) == {}


TRANSPOSED = "h = Gemm<transB = 1>(x_d, w_d)"
SIZES: dict[str, tuple[str, str, str]] = {
    "16 of 16": (linear(w=pair("w16", into="w")).replace("[4, 32]", "[16, 16]"), "", ""),
    "15 inputs": (linear(w=pair("w15", into="w")).replace("[4, 32]", "[16, 15]"), "W", "K 15"),
    "17 inputs": (linear(w=pair("w17", into="w")).replace("[4, 32]", "[16, 17]"), "I", "K 17"),
    "a stack of matrices": (linear(w=pair("stack", into="w")).replace("[4, 32]", "[16, 16]"), "W", "N 8"),
    "a row": (linear().replace("[4, 32]", "[1, 32]"), "W", "M 1"),
    "a row of many": (linear().replace("[4, 32]", "[1, 1, 32]").replace("[A, B]", "[A, B, C]"), "W", "M 1"),
    "two rows": (linear().replace("[4, 32]", "[1, 2, 32]").replace("[A, B]", "[A, B, C]"), "", ""),
    "rows that are not known": (linear().replace("[4, 32]", "[N, 32]"), "", ""),
    "a column": (linear(w=pair("column", into="w")), "W", "N 1"),
    "a small row": (linear(w=pair("narrow", into="w")).replace("[4, 32]", "[1, 32]"), "W", "N 8, M 1"),
    "transposed": (linear(w=pair("narrow", into="w"), product=TRANSPOSED).replace("[4, 32]", "[4, 8]"),
                   "W", "K 8"),
    "a transposed row": (linear(product="h = Gemm<transA = 1>(x_d, w_d)").replace("[4, 32]", "[32, 1]"), "W", "M 1"),
    "two odd sizes": (linear(w=pair("odd17", into="w")).replace("[4, 32]", "[16, 17]"), "I", "K 17, N 40"),
    "few channels": (conv(pair("c8", into="c"), f"{CONV}(x_d, c_d)"), "W", "Cout 8"),
    "few channels back": (conv(pair("c8b", into="c"), "h = ConvTranspose(x_d, c_d)"), "W", "Cout 8"),
    "few channels in": (conv(pair("c_in", into="c"), f"{CONV}(x_d, c_d)").replace("[1, 16, 8, 8] x", "[1, 8, 8, 8] x"),
                        "W", "Cin 8"),
    "odd channels": (conv(pair("c24", into="c"), f"{CONV}(x_d, c_d)"), "I", "Cout 24"),
    "groups": (conv(pair("g4", into="c"), f"{CONV[:-1]}, group = 4>(x_d, c_d)"), "", ""),
    "two activations": (linear(product=f"{pair('x', into='u')} t = Transpose(u_d) h = MatMul(x_d, t)"), "", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", SIZES)
def test_sizes_of_products(case: str, tmp_path: Path) -> None:
    text, severity, detail = SIZES[case]
    report = lint(write(tmp_path / "model.onnx", text), "10")
    found = [(f.severity, f.places[0].detail) for f in report.findings if f.rule == "Q30"]
    assert found == [(severity, detail)] * bool(severity)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (linear().replace("[4, 32]", "[N, 32]"), "N"),
        (linear().replace("[4, 32]", "[N, S, 32]").replace("[A, B]", "[A, B, C]"), "N, S"),
        (linear().replace("[4, 32]", "[N, N, 32]").replace("[A, B]", "[A, B, C]"), "N"),
        (linear(), ""),
        (linear(product="h = MatMul(x_d, w)").replace("[4, 32]", "[N, 32]"), ""),
        (linear(f"t = com.example.Mix(x) {pair('t', into='x')}"), "rank unknown"),
        (linear(product="h = Gemm(x_d, w_d)").replace("[4, 32]", "[N, 32]"), ""),
    ],
)
def test_sizes_that_are_not_known(text: str, found: str, tmp_path: Path) -> None:
    assert said(tmp_path, "Q37", text) == ({"h": found} if found else {})
