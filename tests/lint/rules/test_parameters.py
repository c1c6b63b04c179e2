"""Scales and zero points: every way to be wrong, and what is just right."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.lint_graphs import linear, pair, said, write
from pipeline.lint import lint


@pytest.mark.parametrize(
    ("zero", "target", "found"),
    [
        ("z", "10", ""), ("z_unsigned", "10", "uint8"), ("z_int16", "10", "int16"), ("z_uint16", "10", "uint16"),
        ("z_int32", "10", "int32"), ("z_int32", "8.6", "int32"),
    ],
)  # fmt: skip
def test_the_type_of_integers(zero: str, target: str, found: str, tmp_path: Path) -> None:
    text = linear(pair("x", zero=zero))
    assert said(tmp_path, "Q01", text, target, opset=21) == ({"x_q": found} if found else {})


def test_int32_behind_a_bias_is_no_wrong_type_and_without_a_zero_point_another_rule_asks_for_it(tmp_path: Path) -> None:
    bias = linear(end="b_d = DequantizeLinear(b32, s) t = Exp(b_d) y = Relu(h)")
    assert said(tmp_path, "Q01", bias) == {}
    bare = linear("x_q = QuantizeLinear(x, s) x_d = DequantizeLinear(x_q, s)")
    both = linear("x_q = QuantizeLinear(x, s) x_d = DequantizeLinear(x_q, s)", w=pair("w", zero="z_unsigned"))
    assert (
        said(tmp_path, "Q01", both) == {"w_q": "uint8"} == said(tmp_path, "Q01", linear(w=pair("w", zero="z_unsigned")))
    )
    assert said(tmp_path, "Q01", bare) == {} and said(tmp_path, "Q03", bare, "8.6") == {"x_q": "", "x_d": ""}


@pytest.mark.parametrize(
    ("scale", "zero", "found"), [("s3", "z05", "zero point 5"), ("s3", "z3", ""), ("s", "z5", "zero point 5")]
)
def test_one_zero_point_that_is_not_zero_is_enough(scale: str, zero: str, found: str, tmp_path: Path) -> None:
    text = linear(w=pair("w", scale, zero, axis=1))
    assert said(tmp_path, "Q02", text) == ({"w_q": found} if found else {})


@pytest.mark.parametrize(
    ("x", "found"),
    [
        (f"t = Identity(z) {pair('x', zero='t')}", dict.fromkeys(("x_q", "x_d"), "zero point from Identity t")),
        (pair("x", "p"), dict.fromkeys(("x_q", "x_d"), "scale from a graph input")),
        (f"t = Constant<value = float {{0.1}}>() {pair('x', 't')}", {}),
        ("x_q = QuantizeLinear(x, s) x_d = DequantizeLinear(x_q, s)", {}),
    ],
)
def test_parameters_that_are_computed(x: str, found: dict[str, str], tmp_path: Path) -> None:
    text = linear(x).replace("(float[4, 32] x)", "(float[4, 32] x, float p)")
    assert said(tmp_path, "Q04", text) == found


@pytest.mark.parametrize(
    ("scale", "severity", "detail"),
    [
        ("s_just", "", ""),  # 1e-7 itself will do
        ("s_half_just", "", ""),  # the smallest that float16 has all digits of
        ("s_tiny", "W", "1e-09"),
    ],
)
def test_how_small_a_scale_may_be(scale: str, severity: str, detail: str, tmp_path: Path) -> None:
    report = lint(write(tmp_path / "model.onnx", linear(pair("x", scale))), "10")
    found = [f for f in report.findings if f.rule == "Q05"]
    assert [(f.severity, f.places[0].detail) for f in found] == [(severity, detail)] * bool(severity)


def test_one_scale_that_is_no_number_is_an_error(tmp_path: Path) -> None:
    report = lint(write(tmp_path / "model.onnx", linear(w=pair("w", "s_nan", "z2", axis=1))), "10")
    (found,) = [f for f in report.findings if f.rule == "Q05"]
    assert (found.severity, found.places[0].detail) == ("E", "nan")


def test_no_scale_at_all_is_the_shapes_affair(tmp_path: Path) -> None:
    assert said(tmp_path, "Q05", linear(pair("x", "s_none"))) == {}


@pytest.mark.parametrize(("opset", "found"), [(17, {"x_q": "opset 17"}), (18, {"x_q": "opset 18"}), (19, {})])
def test_half_scales_are_new_in_opset_19(opset: int, found: dict[str, str], tmp_path: Path) -> None:
    assert said(tmp_path, "Q07", linear(pair("x", "s_half")), opset=opset) == found
    assert said(tmp_path, "Q07", linear(), opset=opset) == {}


@pytest.mark.parametrize(
    ("w", "found"),
    [
        (pair("w", "s3", "z3", axis=0), "3 scales for 32 indices of axis 0"),
        (pair("w", "s3", "z3"), "3 scales for 32 indices of axis 1"),  # what ONNX takes where nothing is written
        (pair("w", "s32", "z32", axis=2), "axis 2 of a tensor of rank 2"),
        (pair("w", "s32", "z32", axis=-3), "axis -3 of a tensor of rank 2"),
        (pair("w", "s32", "z32", axis=-2), ""),
        (pair("w", "s32", "z32", axis=-1), ""),
        (pair("w", "s_square", "z"), "scale of shape [2, 2]"),
        (pair("w", "s32", "z3", axis=1), "32 scales, 3 zero points"),
        (pair("w", "s_list", "z", axis=1), ""),
        ("w_q = QuantizeLinear<axis = 1>(w, s32) w_d = DequantizeLinear<axis = 1>(w_q, s32)", ""),
    ],
)
def test_shapes_that_fit(w: str, found: str, tmp_path: Path) -> None:
    assert said(tmp_path, "Q08", linear(w=w)) == ({"w_q": found} if found else {})


def test_scales_of_a_dimension_that_is_not_known_or_of_blocks_are_let_pass(tmp_path: Path) -> None:
    channels = linear(pair("x", "s3", "z3", axis=0))
    assert said(tmp_path, "Q08", channels) == {"x_q": "3 scales for 4 indices of axis 0"}
    assert said(tmp_path, "Q08", channels.replace("[4, 32]", "[N, 32]")) == {}
    blocks = linear(w=pair("w", "s_square", "z", axis=1).replace("axis = 1", "axis = 1, block_size = 16"))
    assert said(tmp_path, "Q08", blocks, opset=21) == {}
    assert said(tmp_path, "Q17", blocks, "8.6", opset=21) == {"w_q": "block_size 16", "w_d": "block_size 16"}
