"""Sums and activations behind products: one kernel, or several."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.lint_graphs import CONV, conv, linear, pair, said, write
from pipeline.lint import lint

OTHER = CONV.replace("h =", "h2 =")
SUMS: dict[str, tuple[str, str, str]] = {
    "none": (conv(end=f"a = Add(h, skip) {pair('a')} y = Exp(a_d)"), "W", "no input quantized"),
    "the product's": (conv(end=f"{pair('h')} a = Add(h_d, skip) {pair('a')} y = Exp(a_d)"), "W", "one input quantized"),
    "the branch": (conv(end=f"{pair('skip')} a = Add(h, skip_d) {pair('a')} y = Exp(a_d)"), "", ""),
    "behind an activation": (
        conv(end=f"a = Add(h, skip) r = Relu(a) {pair('r')} y = Exp(r_d)"), "W", "no input quantized, Q behind Relu"),
    "behind a normalization": (
        linear(end=f"a = Add(h, x) r = LayerNormalization(a, ones32) {pair('r')} y = MatMul(r_d, w_d)"), "I",
        "no input quantized, Q behind LayerNormalization"),
    "behind something float": (conv(end=f"a = Add(h, skip) r = Exp(a) {pair('r')} y = Conv(r_d, c_d)"), "", ""),
    "two products, one quantized": (
        conv(end=f"{OTHER}(skip, c_d) {pair('h2')} a = Add(h, h2_d) {pair('a')} y = Exp(a_d)"), "", ""),
    "two float products": (
        conv(end=f"{OTHER}(skip, c_d) a = Add(h, h2) {pair('a')} y = Exp(a_d)"), "W", "no input quantized"),
}  # fmt: skip


@pytest.mark.parametrize("case", SUMS)
def test_the_branch_around(case: str, tmp_path: Path) -> None:
    text, severity, detail = SUMS[case]
    report = lint(write(tmp_path / "model.onnx", text), "10")
    found = [(f.severity, [(p.node, p.detail) for p in f.places]) for f in report.findings if f.rule == "Q23"]
    assert found == ([(severity, [("a", detail)])] if severity else [])


@pytest.mark.parametrize(
    ("end", "found"),
    [
        (f"{pair('h')} y = Relu(h_d)", {"h_q": "before Relu y"}),
        (f"{pair('h')} t = Relu(h_d) y = Add(h_d, skip)", {"h_q": "before Add y"}),  # of two, the last is told
        (f"{pair('h')} y = Add(h_d, h_d)", {"h_q": "before Add y"}),  # no other branch
        (f"{pair('h')} y = Add(h_d, b)", {}),  # a bias
        (f"{pair('h')} t = Conv(skip, c_d) y = Add(h_d, t)", {}),
        (f"t = Identity(h) {pair('t')} y = Relu(t_d)", {}),
        (f"{pair('h')} y = Softmax(h_d)", {}),
        (f"{pair('h')} y = Add(skip, h_d)", {"h_q": "before Add y"}),
    ],
)
def test_pairs_behind_convolutions(end: str, found: dict[str, str], tmp_path: Path) -> None:
    assert said(tmp_path, "Q24", conv(end=end)) == found


def test_pairs_behind_linear_layers_are_meant(tmp_path: Path) -> None:
    assert said(tmp_path, "Q24", linear(end=f"{pair('h')} y = Relu(h_d)")) == {}
    back = conv(product="h = ConvTranspose<pads = [1, 1, 1, 1]>(x_d, c_d)", end=f"{pair('h')} y = Relu(h_d)")
    assert said(tmp_path, "Q24", back) == {"h_q": "before Relu y"}
