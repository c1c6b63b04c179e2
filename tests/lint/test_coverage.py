"""The facts beside the linter's findings: coverage, attention blocks, residual adds, pairs that are not fused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.lint_graphs import CONV, POINTS, attention, conv, linear, pair, write
from pipeline.lint import Report, lint


def examine(folder: Path, text: str, target: str = "10", **options: Any) -> Report:
    return lint(write(folder / "model.onnx", text, **options), target)


# --- coverage ---

PIXELS, WINDOW = 8 * 8, 3 * 3
GROUPED = f"{CONV[:-1]}, group = 16>(x_d, dw, b)"


@pytest.mark.parametrize(
    ("text", "in_int8", "in_float"),
    [
        (linear(), 4 * 32 * 32, 0),
        (linear(product="h = MatMul(x, w)"), 0, 4 * 32 * 32),
        (linear(product="h = MatMul(x_d, w)"), 0, 4 * 32 * 32),
        (linear(product="k = MatMul(x_d, w_d) h = MatMul(k, w)"), 4 * 32 * 32, 4 * 32 * 32),
        (linear(product="h = Gemm<transA = 1>(x_d, x_d)"), 32 * 32 * 4, 0),
        (linear(product="h = Gemm<transB = 1>(x_d, w_d)"), 4 * 32 * 32, 0),
        (linear(product="t = Cast<to = 10>(x_d) u = Cast<to = 10>(w_d) h = MatMul(t, u)"), 0, 4 * 32 * 32),
        (conv(), 16 * PIXELS * 16 * WINDOW, 0),
        (conv("", GROUPED), 0, 16 * PIXELS * WINDOW),
        (conv(product="h = ConvTranspose(x_d, c_d)"), 16 * PIXELS * 16 * WINDOW, 0),
        (conv(product=f"t = Concat<axis = 1>(x_d, x_d) u, u2 = Split<axis = 1, num_outputs = 2>(t) {CONV}(u, c_d)"),
         16 * PIXELS * 16 * WINDOW, 0),
    ],
)  # fmt: skip
def test_multiply_accumulates(text: str, in_int8: int, in_float: int, tmp_path: Path) -> None:
    found = examine(tmp_path, text).coverage
    assert (found.int8_macs, found.float_macs) == (in_int8, in_float)
    assert found.share == in_int8 / (in_int8 + in_float)
    assert sum(macs for _, macs in found.float_nodes) == in_float and not found.assumed


def test_open_dimensions_are_counted_with_stated_numbers(tmp_path: Path) -> None:
    text = attention(queries="S", keys="S").replace("[1,", "[N,")
    found = examine(tmp_path, text).coverage
    assert found.assumed == {"N": 1, "S": 128}
    assert found.int8_macs == 2 * (2 * 128 * 128 * 32), "two products, two heads"


def test_sizes_come_from_whichever_tensor_knows_them(tmp_path: Path) -> None:
    """Shape inference loses the batch and the heads of one factor; the other still has the heads."""
    text = f"""g (float[N, S, 64] x, int64[4] to, float[N, 2, 32, S] k) => (float[A, B, C, D] y) {{
        t = Reshape(x, to) {pair("t")} {pair("k")} h = MatMul(t_d, k_d) y = Relu(h) }}"""
    found = examine(tmp_path, text).coverage
    assert found.assumed == {"N": 1, "S": 128, "unknown": 128}
    assert found.int8_macs == 2 * 128 * 128 * 32
    lost = examine(tmp_path, text.replace("float[N, 2, 32, S] k", "float[M, P, 32, S] k")).coverage
    assert lost.assumed == {"M": 1, "P": 128, "S": 128, "unknown": 128}


def test_vectors_and_broadcast_batches_are_counted(tmp_path: Path) -> None:
    vector = linear(product="h = MatMul(x, ones32)")
    assert examine(tmp_path, vector).coverage.float_macs == 4 * 32
    text = "g (float[1, 5, 4, 32] x, float[7, 1, 32, 8] k) => (float[A, B, C, D] y) { y = MatMul(x, k) }"
    assert examine(tmp_path, text).coverage.float_macs == 7 * 5 * 4 * 32 * 8


def test_what_cannot_be_counted_is_told_apart(tmp_path: Path) -> None:
    text = linear(product="t = com.example.Mix(x_d) k = MatMul(t, w_d) h = MatMul(x_d, w_d)", end="y = Max(h, k)")
    found = examine(tmp_path, text).coverage
    assert found.uncounted == ("k",) and found.int8_macs == 4 * 32 * 32
    nothing = examine(tmp_path, "g (float[4] x) => (float[4] y) { y = Relu(x) }")
    assert nothing.coverage.share is None and nothing.findings == ()


# --- attention ---


@pytest.mark.parametrize(
    ("options", "verdict", "why"),
    [
        ({}, "int8 fused", ""),
        ({"queries": 512, "keys": 512}, "int8 fused", ""),
        ({"queries": "S", "keys": "S"}, "int8 fused", "while S_q and S_kv are at most 512"),
        ({"quantized": ()}, "fp16 fused", "on 10 and 11 once the graph is fp16 (Q31)"),
        ({"quantized": ("output",)}, "fp16 fused", "on 10 and 11 once the graph is fp16 (Q31)"),
        ({"quantized": (), "head": 12}, "broken", "head size 12 is no multiple of 8 from 16 to 256"),
        ({"head": 40}, "broken", "head size 40 is not 16, 32 or 64"),
        ({"queries": 1024}, "broken", "S_q 1024 is above 512"),
        ({"keys": 513}, "broken", "S_kv 513 is above 512"),
        ({"quantized": POINTS[:-1]}, "broken", "no Q/DQ at output"),
        ({"quantized": ("query", "key")}, "broken", "no Q/DQ at softmax, value, output"),
        ({"scores": "t = Div(r, two) p = Softmax<axis = -1>(t)"}, "broken",
         "scaled behind the scores instead of before Q"),
        ({"scores": f"{pair('r')} p = Softmax<axis = -1>(r_d)"}, "broken", "Q/DQ between the scores and the softmax"),
        ({"key": f"{pair('k', into='l')} k_d = Transpose<perm = [0, 1, 2, 3]>(l_d)"}, "broken",
         "Transpose between the key's DQ and the scores"),
    ],
)  # fmt: skip
def test_attention_gets_a_verdict(options: dict[str, Any], verdict: str, why: str, tmp_path: Path) -> None:
    (block,) = examine(tmp_path, attention(**options)).attention
    assert (block.node, block.verdict, block.why) == ("p", verdict, why)
    assert block.quantized == options.get("quantized", POINTS)
    sizes = {"head": 32, "queries": 128, "keys": 128, **options}
    assert (block.head_size, block.queries, block.keys) == (sizes["head"], sizes["queries"], sizes["keys"])


def test_float_attention_is_fused_on_8_6_as_it_is(tmp_path: Path) -> None:
    (block,) = examine(tmp_path, attention(()), "8.6").attention
    assert (block.verdict, block.why) == ("fp16 fused", "")


def test_a_mask_belongs_to_attention_and_is_no_residual(tmp_path: Path) -> None:
    masked = attention(scores="t = Add(r, r2) p = Softmax<axis = -1>(t)").replace("q_d, k_d)", "q_d, k_d) r2 = Exp(r)")
    report = examine(tmp_path, masked)
    assert [block.verdict for block in report.attention] == ["int8 fused"]
    assert report.residual == {"none": 0, "one": 0, "both": 0}


@pytest.mark.parametrize(
    "text",
    [linear(end="y = Softmax(h)"), linear(product="t = Softmax(x) h = MatMul(t, w)")],
    ids=["a classifier's", "before stored weights"],
)
def test_other_softmaxes_are_no_attention(text: str, tmp_path: Path) -> None:
    assert examine(tmp_path, text).attention == ()


# --- residual adds ---


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("y = Add(h, skip)", "none"),
        (f"{pair('skip')} y = Add(skip_d, h)", "one"),
        (f"{pair('skip')} {pair('h')} y = Add(h_d, skip_d)", "both"),
        (f"t = Mul(h, s) u = Add(t, s) {pair('skip')} y = Add(u, skip_d)", "one"),  # layer scale, bias
        ("t = Relu(x) y = Add(t, skip)", None),  # no product
        ("t = ReduceMean<keepdims = 1>(h) y = Add(h, t)", None),  # spread over
        ("y = Add(h, s)", None),
    ],
)
def test_residual_adds_are_counted(end: str, expected: str | None, tmp_path: Path) -> None:
    counts = examine(tmp_path, conv(end=end)).residual
    assert counts == {name: int(name == expected) for name in ("none", "one", "both")}


# --- unfused ---

X_INPUT = ("x_q", "quantizes an input of the graph")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (linear(), [X_INPUT]),
        (linear(f"t = Exp(x) {pair('t', into='x')}"), []),
        (linear(product="h = MatMul(x_d, w)"), [("x_d", "MatMul h has one float factor"), X_INPUT]),
        (conv(end=f"{pair('h')} y = Softmax(h_d)"),
         [("h_d", "Softmax y runs in float"), X_INPUT, ("h_q", "no DQ of it is fused")]),
        (conv(end=f"{pair('h')} y = Conv(h_d, c_d) z2 = Softmax(h_d)"), [("h_d", "Softmax z2 runs in float"), X_INPUT]),
        (conv(end=f"{pair('h')} y = Add(h_d, skip)"), [X_INPUT]),
        (conv(end=f"r = Relu(h) {pair('r')} y = Identity(r_d)"),
         [("r_d", "it is an output of the graph"), X_INPUT, ("r_q", "no DQ of it is fused")]),
        (linear(product=f"{pair('x_d', 's2', into='u')} h = MatMul(u_d, w_d)"), [X_INPUT, ("u_q", "requantizes x_d")]),
        (linear(product=f"{pair('x_d', into='u')} h = MatMul(u_d, w_d)"), [X_INPUT]),  # an equal scale cancels
        (linear(product="t = Cast<to = 10>(x_d) h = MatMul(t, w_d)"),
         [("x_d", "Cast t runs in float"), X_INPUT]),
    ],
)  # fmt: skip
def test_predicted_kernels_of_q_and_dq(text: str, expected: list[tuple[str, str]], tmp_path: Path) -> None:
    found = [(entry.node, entry.reason) for entry in examine(tmp_path, text).unfused]
    assert found == expected


# --- bodies of If and Loop ---

BODIES = f"""g (float[4, 32] x, bool c) => (float[4, 32] y) {{
  t = Exp(x)
  y = If(c) <
    then_branch = yes () => (float[4, 32] a) {{ {pair("t", "s_zero")} a = MatMul(t_d, w) }},
    else_branch = no () => (float[4, 32] a2) {{ a2 = MatMul(t, w) }}
  >
}}"""


def test_bodies_are_looked_into(tmp_path: Path) -> None:
    report = examine(tmp_path, BODIES, named=False)
    (zero,) = [f for f in report.findings if f.rule == "Q05"]
    assert zero.nodes == ("t_q",)
    assert {name for name, _ in report.coverage.float_nodes} == {"a", "a2"}
    assert report.operators == 6
