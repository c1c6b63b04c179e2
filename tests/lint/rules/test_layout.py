"""Scales of what is joined and of what is shared."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.lint_graphs import linear, pair, said


@pytest.mark.parametrize(
    ("product", "found"),
    [
        (f"{pair('x', 's2', into='u')} t = Concat<axis = 0>(x_d, u_d) h = MatMul(t, w_d)", "2 scales: 0.1, 0.2"),
        (f"{pair('x', into='u')} t = Concat<axis = 0>(x_d, u_d) h = MatMul(t, w_d)", ""),
        (f"{pair('x', 's_list', into='u')} t = Concat<axis = 0>(x_d, u_d) h = MatMul(t, w_d)", ""),
        ("t = Concat<axis = 0>(x_d, x_d, x) h = MatMul(t, w_d)", "2 of 3 parts quantized"),
        ("t = Concat<axis = 0>(x, x) h = MatMul(t, w)", ""),
        (f"{pair('x', 's3', 'z3', axis=0, into='u')} t = Concat<axis = 0>(x_d, u_d) h = MatMul(t, w_d)",
         "2 scales: 0.1, 3 scales"),
        ("p = Exp(s) v_q = QuantizeLinear(x, p, z) v_d = DequantizeLinear(v_q, p, z) "
         "t = Concat<axis = 0>(v_d, v_d) h = MatMul(t, w_d)", ""),
    ],
)  # fmt: skip
def test_joined_parts(product: str, found: str, tmp_path: Path) -> None:
    assert said(tmp_path, "Q27", linear(product=product)) == ({"t": found} if found else {})


TWICE = "k = MatMul(u_d, w_d) h = MatMul(x_d, w_d)"


@pytest.mark.parametrize(
    ("product", "found"),
    [
        (f"{pair('x', 's2', into='u')} {TWICE}", {"x_q": "x with 0.1", "u_q": "x with 0.2"}),
        (f"t = Reshape(x, to) {pair('t', 's2', into='u')} {TWICE}", {"x_q": "x with 0.1", "u_q": "x with 0.2"}),
        (f"t = Exp(x) {pair('t', 's2', into='u')} {TWICE}", {}),
        (f"{pair('x', into='u')} {TWICE}", {}),
        (f"{pair('w', 's', into='u')} k = MatMul(x_d, u_d) h = MatMul(x_d, w_d)", {}),  # weights are not meant
    ],
)
def test_shared_tensors(product: str, found: dict[str, str], tmp_path: Path) -> None:
    assert said(tmp_path, "Q28", linear(product=product, end="y = Max(h, k)")) == found
