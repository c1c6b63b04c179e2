"""The dialect of TensorRT 8.6: ONNX text in opset 20 in, opset 17 out, with the same outputs in ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common
import pytest

from helpers.onnx_text import normal, operators, parse, run
from pipeline.errors import InputError
from pipeline.graph.opset_17 import opset_17

X = normal(3, 4, 6)
CHAIN = ["Div", "Erf", "Add", "Mul", "Mul"]
TANH_CHAIN = ["Pow", "Mul", "Add", "Mul", "Tanh", "Add", "Mul", "Mul"]


def typed(body: str, **constants: Any) -> ir.Model:
    """Returns the model of an ONNX text with the shapes of its tensors, as the exporter's graphs have them."""
    model = parse(body, **constants)
    common.ShapeInferencePass()(model)
    return model


def lowered(body: str, feeds: dict[str, np.ndarray], atol: float = 0.0, **constants: Any) -> ir.Model:
    """Returns the model after the pass; asserts opset 17, the checker's approval and the outputs of opset 20."""
    model = typed(body, **constants)
    before = run(model, **feeds)
    assert opset_17(model).modified
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 17)] and proto.ir_version == 8
    for a, b in zip(before, run(model, **feeds), strict=True):
        np.testing.assert_allclose(b, a, atol=atol, rtol=0)
    assert not opset_17(model).modified, "the second time there is nothing to do"
    return model


@pytest.mark.parametrize(
    ("attributes", "chain"), [("", CHAIN), ('<approximate = "none">', CHAIN), ('<approximate = "tanh">', TANH_CHAIN)]
)
def test_gelu_becomes_its_chain(attributes: str, chain: list[str]) -> None:
    # tolerance: two roundings of values up to 8, each half of 2⁻²⁰
    x = np.linspace(-8, 8, 72, dtype=np.float32).reshape(3, 4, 6)
    model = lowered(f"agraph (float[N, 4, 6] x) => (float[N, 4, 6] y) {{ y = Gelu{attributes}(x) }}", {"x": x}, 2e-6)
    assert operators(model) == chain
    assert [v.name for v in model.graph.outputs] == ["y"]


def test_gelu_of_two_layers_share_their_constants_and_no_name() -> None:
    text = "agraph (float[N, 4, 6] x) => (float[N, 4, 6] y) { h = Gelu(x) y = Gelu(h) }"
    model = lowered(text, {"x": X}, 2e-6)
    assert operators(model) == CHAIN * 2 and len(model.graph.initializers) == 3
    names = [n.name for n in model.graph]
    assert len(set(names)) == len(names) and all(str(name).startswith(("h/", "y/")) for name in names)


def test_layer_normalization_stays_one_node() -> None:
    text = "agraph (float[N, 4, 6] x) => (float[N, 4, 6] y) { y = LayerNormalization<axis = -1>(x, g, b) }"
    assert operators(lowered(text, {"x": X}, g=normal(6), b=normal(6))) == ["LayerNormalization"]


@pytest.mark.parametrize("name", ["L1", "L2", "Max", "Mean", "Min", "Prod", "SumSquare", "LogSumExp"])
@pytest.mark.parametrize(("axes", "shape"), [([-1], "[N, 4, 1]"), ([1, 2], "[N, 1, 1]")])
def test_axes_of_a_reduction_become_its_attribute(name: str, axes: list[int], shape: str) -> None:
    text = f"agraph (float[N, 4, 6] x) => (float{shape} y) {{ y = Reduce{name}(x, axes) }}"
    model = lowered(text, {"x": X}, axes=np.array(axes))
    (node,) = model.graph
    assert len(node.inputs) == 1 and list(node.attributes["axes"].as_ints()) == axes
    assert not model.graph.initializers


def test_a_reduction_without_axes_takes_all() -> None:
    model = lowered("agraph (float[N, 4, 6] x) => (float y) { y = ReduceMean<keepdims = 0>(x) }", {"x": X})
    (node,) = model.graph
    assert set(node.attributes) == {"keepdims"}


def test_reduce_sum_takes_its_axes_as_an_input_since_opset_13() -> None:
    text = "agraph (float[N, 4, 6] x) => (float[N, 4, 1] y) { y = ReduceSum(x, axes) }"
    (node,) = lowered(text, {"x": X}, axes=np.array([-1])).graph
    assert len(node.inputs) == 2


@pytest.mark.parametrize(("count", "lengths"), [(2, [3, 3]), (4, [2, 2, 2, 1])])
def test_split_names_the_length_of_its_parts(count: int, lengths: list[int]) -> None:
    outputs = ", ".join(f"y{i}" for i in range(count))
    types = ", ".join(f"float[N, 4, {length}] y{i}" for i, length in enumerate(lengths))
    body = f"{outputs} = Split<axis = -1, num_outputs = {count}>(x)"
    text = f"agraph (float[N, 4, {sum(lengths)}] x) => ({types}) {{ {body} }}"
    (node,) = lowered(text, {"x": normal(3, 4, sum(lengths))}).graph
    stored = node.inputs[1]
    assert stored is not None and stored.const_value is not None
    assert stored.const_value.numpy().tolist() == lengths and "num_outputs" not in node.attributes


def test_pads_of_some_axes_become_pads_of_all() -> None:
    text = "agraph (float[N, 4, 6] x) => (float[N, 7, 6] y) { y = Pad(x, pads, , axes) }"
    (node,) = lowered(text, {"x": X}, pads=np.array([1, 2]), axes=np.array([-2])).graph
    assert len(node.inputs) <= 3


@pytest.mark.parametrize(
    ("inputs", "attributes", "constants"),
    [
        ("x, , , sizes", "", {"sizes": np.array([2, 3, 8, 10])}),
        (
            "x, , scales",
            'antialias = 0, keep_aspect_ratio_policy = "stretch", ',
            {"scales": np.array([1, 1, 2, 2.5], np.float32)},
        ),
        ("x, , , sizes", "axes = [2, 3], ", {"sizes": np.array([8, 10])}),
        ("x, , scales", "axes = [2, 3], ", {"scales": np.array([2, 2.5], np.float32)}),
    ],
    ids=["sizes", "defaults", "some-sizes", "some-scales"],
)  # fmt: skip
def test_resize_of_all_axes(inputs: str, attributes: str, constants: dict[str, np.ndarray]) -> None:
    text = f"""agraph (float[2, 3, 4, 4] x) => (float[2, 3, 8, 10] y) {{
      y = Resize<{attributes}mode = "linear", coordinate_transformation_mode = "half_pixel">({inputs})
    }}"""
    (node,) = lowered(text, {"x": normal(2, 3, 4, 4)}, **constants).graph
    assert not {"axes", "antialias", "keep_aspect_ratio_policy"} & set(node.attributes)


def test_pairs_say_their_axis_and_zero_point() -> None:
    text = """
agraph (float[N, 4] x) => (float[N, 3] y) {
  a_q = QuantizeLinear<saturate = 1>(x, s, z)
  a = DequantizeLinear(a_q, s)
  w = DequantizeLinear(stored, t)
  y = MatMul(a, w)
}"""
    constants = {"s": np.float32(0.05), "z": np.int8(0), "stored": np.arange(12, dtype=np.int8).reshape(4, 3)}
    model = lowered(text, {"x": normal(5, 4)}, **constants, t=np.array([0.1, 0.2, 0.3], np.float32))
    quantize, activation, weight, _ = model.graph
    assert "saturate" not in quantize.attributes and "axis" not in quantize.attributes
    assert weight.attributes["axis"].as_int() == 1
    for node, shape in ((activation, ()), (weight, (3,))):
        zero_point = node.inputs[2]
        assert zero_point is not None and zero_point.const_value is not None
        assert zero_point.const_value.numpy().shape == shape and zero_point.dtype == ir.DataType.INT8


REFUSED = {
    "later-operator": ("y = Mish(x)", {}, r"y \(Mish\): it came later"),
    "run-time-axes": (
        "i = Shape<start = 0, end = 1>(x) o = Div(i, i) y = ReduceMax(x, o)",
        {},
        r"y \(ReduceMax\): its axes",
    ),
    "no-effect-of-empty-axes": ("y = ReduceMean<noop_with_empty_axes = 1>(x)", {}, r"noop_with_empty_axes came later"),
    "antialias": (
        'y = Resize<mode = "linear", antialias = 1>(x, , s)', {"s": np.ones(3, np.float32)}, "antialias came later"
    ),
    "later-value": ('y = Pad<mode = "wrap">(x, p)', {"p": np.zeros(6, np.int64)}, "mode = wrap came later"),
    "half-scale": (
        "h = Cast<to = 10>(x) a_q = QuantizeLinear(h, s, z) a = DequantizeLinear(a_q, s, z) y = Cast<to = 1>(a)",
        {"s": np.float16(0.5), "z": np.int8(0)},
        r"a_q \(QuantizeLinear\): its scale is FLOAT16",
    ),
    "unsigned": (
        "a_q = QuantizeLinear(x, s, z) y = DequantizeLinear(a_q, s, z)",
        {"s": np.float32(0.5), "z": np.uint8(128)},
        "its zero point is not int8 and 0",
    ),
    "no-zero-point": (
        "a_q = QuantizeLinear(x, s) y = DequantizeLinear(a_q, s)", {"s": np.float32(0.5)}, "it has no stored zero point"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_form_is_refused_by_name(case: str) -> None:
    body, constants, message = REFUSED[case]
    model = typed(f"agraph (float[N, 4, 6] x) => (float[A, B, C] y) {{ {body} }}", **constants)
    with pytest.raises(InputError, match=message) as refusal:
        opset_17(model)
    assert "tensorrt.target=10" in str(refusal.value)


def test_every_operator_without_a_form_is_in_one_message() -> None:
    model = typed("agraph (float[N, 4, 6] x) => (float[N, 4, 6] y) { h = Mish(x) n = Neg(h) y = Mish(n) }")
    with pytest.raises(InputError, match=r"2 operators have no form in opset 17") as refusal:
        opset_17(model)
    assert "h (Mish)" in str(refusal.value) and "y (Mish)" in str(refusal.value)


def test_a_split_of_unknown_length_is_refused() -> None:
    text = "agraph (float[N, 4] x) => (float[A, 4] y, float[B, 4] z) { y, z = Split<axis = 0, num_outputs = 2>(x) }"
    with pytest.raises(InputError, match="the length that it splits is unknown"):
        opset_17(typed(text))
