"""The file as a whole: what was not looked at, what stays float, where the weights are."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.lint_graphs import CONV, RESIZE, conv, linear, said, write
from pipeline.graph.view import View
from pipeline.lint.load import read
from pipeline.lint.rules import RULES, every_rule


def found(folder: Path, rule: str, **options: object) -> list[str]:
    """Returns what a rule says of a graph as a whole."""
    every_rule()
    view = View(read(write(folder / "model.onnx", linear())).model, **options)  # type: ignore[arg-type]
    return [hit.detail for hit in RULES[rule].check(view) if hit.node is None]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("a",), ["weights in 1 other files: a"]),
        (("a", "b", "c"), ["weights in 3 other files: a, b, c"]),
        (("a", "b", "c", "d"), ["weights in 4 other files: a, b, c, …"]),
        ((), []),
    ],
)
def test_three_other_files_are_named(files: tuple[str, ...], said: list[str], tmp_path: Path) -> None:
    assert found(tmp_path, "Q40", external=files) == said


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (2**31 - 1, []),
        (2**31, ["2.0 GiB with its weights: more than one protobuf message holds"]),
        (3 * 2**30, ["3.0 GiB with its weights: more than one protobuf message holds"]),
    ],
)
def test_a_protobuf_message_holds_less_than_2_gib(size: int, said: list[str], tmp_path: Path) -> None:
    assert found(tmp_path, "Q40", bytes=size) == said


def test_why_shapes_are_unknown_is_told(tmp_path: Path) -> None:
    assert found(tmp_path, "Q00", inference="Mix is unknown") == ["Mix is unknown"]
    assert found(tmp_path, "Q00") == []
    one = linear(product="t = com.example.Mix(x_d) h = MatMul(t, w_d)", end="k = MatMul(x_d, w_d) y = Max(h, k)")
    assert said(tmp_path, "Q00", one) == {"h": "MatMul"}


def test_shares_of_what_stays_float(tmp_path: Path) -> None:
    text = linear(product="k = MatMul(x_d, w_d) l = MatMul(x, narrow) h = MatMul(k, w)")
    assert said(tmp_path, "Q39", text) == {"h": "44.4%", "l": "11.1%"}  # 4 and 1 of 9 parts
    assert said(tmp_path, "Q39", linear()) == {}


def test_a_resize_that_keeps_dq_from_its_product(tmp_path: Path) -> None:
    assert said(tmp_path, "Q40", conv(product=RESIZE.format(mode="cubic"))) == {"t": "cubic, before h"}
    other = f't = Resize<mode = "linear">(skip, , twice) {CONV}(t, c_d)'
    assert said(tmp_path, "Q40", conv(product=other)) == {}
    relu = f't = Relu(x_d) u = Resize<mode = "linear">(t, , twice) {CONV}(u, c_d)'
    assert said(tmp_path, "Q40", conv(product=relu)) == {}
