"""Attention that is quantized in part, at a size without a kernel, or with its scaling in the wrong place."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.lint_graphs import attention, pair, said


def test_a_pair_between_scores_and_softmax_is_named(tmp_path: Path) -> None:
    text = attention(scores=f"{pair('r')} p = Softmax<axis = -1>(r_d)")
    assert said(tmp_path, "Q20", text) == {"r_q": "between the scores and p"}
    assert said(tmp_path, "Q20", attention()) == {} and said(tmp_path, "Q20", attention(())) == {}


@pytest.mark.parametrize(
    ("quantized", "found"),
    [
        (("query", "key", "softmax", "value", "output"), True),
        (("query", "key"), True),
        (("softmax", "value"), True),
        (("query", "value"), False),  # half of each product: both run in float
        ((), False),
    ],
)
def test_one_product_in_int8_needs_a_kernel(quantized: tuple[str, ...], found: bool, tmp_path: Path) -> None:
    text = attention(quantized, queries=1024, keys=513)
    report = said(tmp_path, "Q21", text)
    assert [*report] == ["p"] * found
    assert said(tmp_path, "Q21", attention(quantized)) == {}


TWO = """g (float[1, 2, 8, 32] q, float[1, 2, 32, 8] k, float[1, 2, 8, 32] v) => (float[A, B, C, D] y) {{
    r0 = MatMul(q, k) t0 = Mul(r0, s) p0 = Softmax<axis = -1>(t0) c0 = MatMul(p0, v)
    {query} {key} r = MatMul(q_d, k_d) t = Mul(r, s) p = Softmax<axis = -1>(t) c = MatMul(p, v) y = Add(c0, c) }}"""
FLOAT = "q_d = Identity(q)", "k_d = Identity(k)"


@pytest.mark.parametrize(
    ("query", "key", "found"),
    [
        (pair("q"), pair("k"), True),
        (pair("q"), FLOAT[1], True),
        (FLOAT[0], pair("k"), True),
        (*FLOAT, False),
    ],
)
def test_scaling_behind_quantized_scores(query: str, key: str, found: bool, tmp_path: Path) -> None:
    """The first block is float, and so fused with its scaling anywhere."""
    assert said(tmp_path, "Q22", TWO.format(query=query, key=key)) == ({"t": "scales the scores"} if found else {})


def test_a_transposed_key_counts_where_the_key_is_quantized(tmp_path: Path) -> None:
    late = f"{pair('k', into='l')} k_d = Transpose<perm = [0, 1, 3, 2]>(l_d)"
    assert said(tmp_path, "Q22", attention(key=late)) == {"k_d": "between the key's DQ and the scores"}
    plain = attention(("query",), key="k_d = Transpose<perm = [0, 1, 3, 2]>(k)")
    assert said(tmp_path, "Q22", plain) == {}
