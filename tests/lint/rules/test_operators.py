"""Operators that are refused, or fused in another form only."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from helpers.lint_graphs import LAYER_NORM, conv, linear, pair, said, write
from pipeline.lint import lint


@pytest.mark.parametrize(
    "kind",
    ["QLinearMatMul", "MatMulInteger", "com.microsoft.MatMulIntegerToFloat", "com.microsoft.QGemm", "ConvInteger",
     "com.microsoft.QAttention", "com.microsoft.DynamicQuantizeMatMul", "com.microsoft.QLinearAdd"],
)  # fmt: skip
def test_operators_on_integers(kind: str, tmp_path: Path) -> None:
    text = linear(end=f"k = {kind}(x_q, w_q) y = Relu(h)")
    assert said(tmp_path, "Q12", text) == {"k": kind.rpartition(".")[2]}


@pytest.mark.parametrize("kind", ["Relu", "com.example.FloatToInteger2", "QuantizeLinear"])
def test_other_operators_are_not_on_integers(kind: str, tmp_path: Path) -> None:
    assert said(tmp_path, "Q12", linear(end=f"k = {kind}(h, s, z) y = Relu(h)")) == {}


CHANGES: dict[str, tuple[str, int, list[str]]] = {
    "a new operator of another domain": ("k = com.example.Gelu(h) y = Relu(h)", 20, []),
    "an input that is left out": ("k = ReduceMean(h, ) y = Relu(h)", 18, []),
    "a second input": ("k = ReduceMean(h, last) y = Relu(h)", 18, ["ReduceMean with 2 inputs"]),
    "an attribute that is as before": ("k = Cast<to = 1, saturate = 1>(h) y = Relu(h)", 19, []),
    "an attribute without default": (
        "k = ReduceMean<axes = [0]>(h) y, y2 = Split<num_outputs = 2>(h)", 18, ["Split with num_outputs"]),
    "two": ("k = Gelu(h) l = Cast<to = 1, saturate = 0>(h) y = Relu(h)", 20,
            ["Cast with saturate", "Gelu is no operator of opset 17"]),
    "an attribute of no operator set": ("k = Relu<odd = 1>(h) y = Relu(h)", 20, ["Relu with odd"]),
    "a reduction": ('k = ScatterND<reduction = "none">(h, to, x) y = Relu(h)', 18, []),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_what_opset_17_does_not_have(case: str, tmp_path: Path) -> None:
    end, opset, changes = CHANGES[case]
    report = lint(write(tmp_path / "model.onnx", linear(end=end), opset=opset), "8.6")
    errors = [f for f in report.findings if f.rule == "Q13" and f.severity == "E"]
    assert sorted(place.detail for f in errors for place in f.places) == changes


@pytest.mark.parametrize(("inputs", "found"), [([""], []), (["", ""], []), (["last"], ["ReduceMean with 2 inputs"])])
def test_inputs_that_are_left_out_are_none(inputs: list[str], found: list[str], tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", linear(end="k = ReduceMean(h) t = Exp(last) y = Relu(h)"), opset=18)
    model = onnx.load(path)
    (mean,) = [node for node in model.graph.node if node.op_type == "ReduceMean"]
    mean.input.extend(inputs)
    onnx.save(model, path)
    errors = [f for f in lint(path, "8.6").findings if f.rule == "Q13" and f.severity == "E"]
    assert [place.detail for f in errors for place in f.places] == found


@pytest.mark.parametrize(
    ("opset", "target", "found"),
    [
        (17, "8.6", {}),
        (18, "8.6", {None: "opset 18; 8.6 knows 17 and does not check"}),
        (20, "10", {}),
        (21, "10", {None: "opset 21; 10.0 and 10.1 know 20"}),
        (13, "10", {}),
        (12, "10", dict.fromkeys(("w_q", "w_d"), "a scale per channel in opset 12, which has none below 13")),
    ],
)
def test_operator_sets(opset: int, target: str, found: dict[str | None, str], tmp_path: Path) -> None:
    assert said(tmp_path, "Q13", linear(), target, opset=opset) == found
    report = lint(write(tmp_path / "model.onnx", linear(), opset=opset), target)
    assert {f.severity for f in report.findings if f.rule == "Q13"} == (
        {"E" if opset < 13 else "W"} if found else set()
    )


@pytest.mark.parametrize(
    ("end", "found"),
    [
        ("y = BatchNormalization(h, b, b, b, b)", "after h"),
        (f"{pair('h')} y = BatchNormalization(h_d, b, b, b, b)", "after h"),
        ("t = Identity(h) y = BatchNormalization(t, b, b, b, b)", "after h"),
        ("t = Relu(h) y = BatchNormalization(t, b, b, b, b)", ""),
        ("y = BatchNormalization(skip, b, b, b, b)", ""),
    ],
)
def test_batch_normalization(end: str, found: str, tmp_path: Path) -> None:
    assert said(tmp_path, "Q25", conv(end=end)) == ({"y": found} if found else {})


NORMS: dict[str, tuple[str, int, bool]] = {
    "as one multiplies": (LAYER_NORM.replace("Pow(d, two)", "Mul(d, d)"), 18, True),
    "through a cast": (
        LAYER_NORM.replace("Pow(d, two)", "Pow(dc, two)").replace("e = ", "dc = Cast<to = 1>(d) e = "), 18, True),
    "epsilon first": (LAYER_NORM.replace("Add(v, eps)", "Add(eps, v)"), 18, True),
    "axes written": (LAYER_NORM.replace("ReduceMean(h, last)", "ReduceMean<axes = [-1]>(h)")
                     .replace("ReduceMean(e, last)", "ReduceMean<axes = [-1]>(e)"), 17, True),
    "the last by its number": (LAYER_NORM.replace("ReduceMean(e, last)", "ReduceMean<axes = [1]>(e)"), 17, True),
    "the first": (LAYER_NORM.replace("ReduceMean(e, last)", "ReduceMean<axes = [0]>(e)"), 17, False),
    "all": (LAYER_NORM.replace("ReduceMean(e, last)", "ReduceMean(e)"), 18, True),
    "the first as a tensor": (LAYER_NORM.replace("ReduceMean(e, last)", "ReduceMean(e, start)"), 18, False),
    "the last as a tensor": (LAYER_NORM.replace("ReduceMean(e, last)", "ReduceMean(e, first)"), 18, True),
    "no difference": (LAYER_NORM.replace("Pow(d, two)", "Pow(h, two)"), 18, False),
    "a difference of something else": (LAYER_NORM.replace("Sub(h, m)", "Sub(h, x)"), 18, False),
    "no square": (LAYER_NORM.replace("Pow(d, two)", "Exp(d)"), 18, False),
    "no mean": (LAYER_NORM.replace("v = ReduceMean(e, last)", "v = Exp(e)"), 18, False),
    "no epsilon": (LAYER_NORM.replace("Sqrt(a)", "Sqrt(v)"), 18, False),
}  # fmt: skip


@pytest.mark.parametrize("case", NORMS)
def test_a_layer_normalization_in_small_operators(case: str, tmp_path: Path) -> None:
    end, opset, is_one = NORMS[case]
    assert said(tmp_path, "Q33", linear(end=end), opset=opset) == ({"root": ""} if is_one else {})
