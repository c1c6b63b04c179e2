"""Passes about layouts: transposed images, 1×1 convolutions as linear layers, transposes that sink and cancel."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common
import pytest

from helpers.onnx_text import normal, operators, parse, run, same_after
from pipeline.graph.images import transpose_images
from pipeline.graph.int8_weights import store_int8_weights
from pipeline.graph.linear_pointwise import linear_pointwise
from pipeline.graph.sink import sink_transposes

U8 = np.uint8(128)


def counted(model: ir.Model) -> Counter[str]:
    return Counter(operators(model))


def shaped(model: ir.Model, **shapes: tuple[int | str, ...]) -> ir.Model:
    """Gives values the shapes that the exporter's shape inference finds."""
    for node in model.graph:
        for value in node.outputs:
            if value.name in shapes:
                value.shape = ir.Shape(shapes[value.name])
                value.dtype = ir.DataType.UINT8 if value.name.endswith("_q") else ir.DataType.FLOAT
    return model


# --- transpose_images ---

TOKENS = """
agraph (float[B, 3, 4, 5] x) => (float[B, 20, 3] y) {
  planes = Reshape(x, rows)
  t = Transpose<perm = [0, 2, 1]>(planes)
  y = Relu(t)
}"""
IMAGE = """
agraph (float[B, 20, 3] x) => (float[B, 3, 4, 5] y) {
  t = Transpose<perm = [0, 2, 1]>(x)
  planes = Reshape(t, image)
  y = Relu(planes)
}"""


def tokens(**shapes: tuple[int | str, ...]) -> ir.Model:
    model = parse(TOKENS, rows=np.array([-1, 3, 20]))
    return shaped(model, **{"planes": ("B", 3, 20), "t": ("B", 20, 3), **shapes})


def image(**shapes: tuple[int | str, ...]) -> ir.Model:
    model = parse(IMAGE, image=np.array([-1, 3, 4, 5]))
    return shaped(model, **{"t": ("B", 3, 20), "planes": ("B", 3, 4, 5), **shapes})


def test_an_image_is_transposed_before_it_becomes_tokens() -> None:
    model = tokens()
    assert same_after(transpose_images, model, x=normal(2, 3, 4, 5))
    assert operators(model) == ["Transpose", "Reshape", "Relu"]
    assert not transpose_images(model).modified, "once is enough"


def test_tokens_become_an_image_before_it_is_transposed() -> None:
    model = image()
    assert same_after(transpose_images, model, x=normal(2, 20, 3))
    assert operators(model) == ["Reshape", "Transpose", "Relu"]


def test_every_image_made_of_the_same_tokens_is_edited_and_other_readers_keep_the_rows() -> None:
    text = IMAGE.replace(
        "=> (float[B, 3, 4, 5] y)", "=> (float[B, 3, 4, 5] y, float[B, 3, 2, 10] z, float[B, 3, 20] r)"
    )
    text = text.replace("y = Relu(planes)", "y = Relu(planes)\n other = Reshape(t, wide)\n z = Neg(other)\n r = Abs(t)")
    model = parse(text, image=np.array([-1, 3, 4, 5]), wide=np.array([-1, 3, 2, 10]))
    shaped(model, t=("B", 3, 20), planes=("B", 3, 4, 5), other=("B", 3, 2, 10))
    assert same_after(transpose_images, model, x=normal(2, 20, 3))
    assert counted(model) == {"Reshape": 2, "Transpose": 3, "Relu": 1, "Neg": 1, "Abs": 1}


@pytest.mark.parametrize(
    "model",
    [
        tokens(planes=("B", 3, "P"), t=("B", "P", 3)),  # how many pixels is not known
        tokens(planes=("B", 6, 10)),  # another cut than along the planes
        image(planes=("B", 3, "H", "W")),
        image(planes=("B", 6, 2, 5)),
    ],
)
def test_what_is_no_flattening_of_known_planes_stays(model: ir.Model) -> None:
    before = operators(model)
    assert not transpose_images(model).modified
    assert operators(model) == before


# --- linear_pointwise ---

CONVOLUTION = """
agraph (float[B, 6, 4, 5] x) => (float[B, 8, 4, 5] y) {
  x_q = QuantizeLinear(x, s, u)
  a = DequantizeLinear(x_q, s, u)
  w_q = QuantizeLinear<axis = 0>(w, ws, z)
  k = DequantizeLinear<axis = 0>(w_q, ws, z)
  y = Conv<ATTRIBUTES>(a, k, b)
}"""


def convolution(attributes: str = "kernel_shape = [1, 1]", kernel: int = 1, inputs: int = 6) -> ir.Model:
    weight = normal(8, inputs, kernel, kernel)
    scale = (np.abs(weight).max(axis=(1, 2, 3)) / 127).astype(np.float32)
    constants = {"w": weight, "ws": scale, "z": np.zeros(8, np.int8), "b": normal(8), "s": np.float32(0.02), "u": U8}
    model = parse(CONVOLUTION.replace("ATTRIBUTES", attributes), **constants)
    store_int8_weights(model)
    return model


def test_an_int8_pointwise_convolution_becomes_a_linear_layer() -> None:
    model, x = convolution(), normal(3, 6, 4, 5)
    (before,) = run(model, x=x)
    assert linear_pointwise(model).modified
    (after,) = run(model, x=x)
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)  # the sums run in another order
    names = operators(model)
    assert "Conv" not in names and names[-4:] == ["Transpose", "MatMul", "Add", "Transpose"]
    (weight,) = [v for v in model.graph.initializers.values() if v.const_value is not None and len(v.shape or ()) == 2]
    assert weight.dtype == ir.DataType.INT8 and weight.const_value is not None
    assert tuple(weight.const_value.shape) == (6, 8), "[C, N], as the product reads it"
    assert model.graph.outputs[0].name == "y"


@pytest.mark.parametrize(
    ("attributes", "kernel", "inputs"),
    [
        ("kernel_shape = [1, 1], strides = [2, 2]", 1, 6),
        ("kernel_shape = [1, 1], group = 2", 1, 3),
        ("kernel_shape = [3, 3], pads = [1, 1, 1, 1]", 3, 6),
        ("kernel_shape = [1, 1], pads = [1, 1, 1, 1]", 1, 6),
    ],
)
def test_other_convolutions_stay(attributes: str, kernel: int, inputs: int) -> None:
    model = convolution(attributes, kernel, inputs)
    assert not linear_pointwise(model).modified
    assert "Conv" in operators(model) and "MatMul" not in operators(model)


def test_a_float_convolution_stays() -> None:
    text = "agraph (float[B, 6, 4, 5] x) => (float[B, 8, 4, 5] y) { y = Conv<kernel_shape = [1, 1]>(x, w) }"
    model = parse(text, w=normal(8, 6, 1, 1))
    assert not linear_pointwise(model).modified and operators(model) == ["Conv"]


# --- sink_transposes ---

FIRST, LAST = "Transpose<perm = [0, 3, 1, 2]>", "Transpose<perm = [0, 2, 3, 1]>"
BETWEEN = {
    "nothing": ("y0 = Identity(a)", 0),
    "relu": ("y0 = Relu(a)", 0),
    "relu twice": ("m = Relu(a)\n y0 = Relu(m)", 0),
    "per-tensor pair": ("m_q = QuantizeLinear(a, s, u)\n y0 = DequantizeLinear(m_q, s, u)", 0),
    "sum of two": ("y0 = Add(a, b)", 0),
    "per-channel factor": ("y0 = Mul(a, c4)", 0),
    "scalar": ("y0 = Add(a, c0)", 0),
    "softmax over the last axis": ("y0 = Softmax<axis = -1>(a)", 2),
    "per-channel pair": ("m_q = QuantizeLinear<axis = 1>(a, cs, cu)\n y0 = DequantizeLinear<axis = 1>(m_q, cs, cu)", 2),
    "a factor along the width": ("y0 = Mul(a, c1)", 2),
    "a sum with planes": ("y0 = Add(a, planes)", 2),
}


def sandwich(body: str) -> ir.Model:
    body = body.replace("y0 = Identity(a)", "")
    source = "y0" if "y0" in body else "a"
    text = f"""
    agraph (float[2, 4, 5, 3] x, float[2, 4, 5, 3] v, float[2, 3, 4, 5] planes) => (float[2, 4, 5, 3] y) {{
      h = Neg(x)
      a = {FIRST}(h)
      b = {FIRST}(v)
      {body}
      y = {LAST}({source})
    }}"""
    constants = {"s": np.float32(0.02), "u": U8, "c4": normal(1, 3, 1, 1), "c1": normal(5), "c0": np.float32(2)}
    constants |= {"cs": np.full(3, 0.02, np.float32), "cu": np.full(3, 128, np.uint8)}
    model = parse(text, **{name: value for name, value in constants.items() if name in body.replace("y0", "")})
    common.RemoveUnusedNodesPass()(model)
    planes = (2, 3, 4, 5)
    return shaped(
        model, **{str(v.name): planes for node in model.graph for v in node.outputs if v.name not in ("h", "y")}
    )


@pytest.mark.parametrize("between", BETWEEN)
def test_transposes_sink_through_what_does_not_care_and_cancel(between: str) -> None:
    body, left = BETWEEN[between]
    model = sandwich(body)
    feeds = {"x": normal(2, 4, 5, 3), "v": normal(2, 4, 5, 3), "planes": normal(2, 3, 4, 5)}
    assert same_after(sink_transposes, model, **feeds) == (left == 0)
    assert counted(model)["Transpose"] == left
    assert model.graph.outputs[0].name == "y"


RESIZE = f"""
agraph (float[B, 4, 5, 3] x) => (float[B, 8, 15, 3] y) {{
  a = {FIRST}(x)
  r = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(a, , , sizes)
  y = {LAST}(r)
}}"""


def resize(height: int, width: int) -> ir.Model:
    text = RESIZE.replace("8, 15", f"{height}, {width}").replace("[B,", "[2,")
    model = parse(text, sizes=np.array([2, 3, height, width]))
    return shaped(model, a=(2, 3, 4, 5), r=(2, 3, height, width))


def test_a_resize_of_whole_factors_is_done_channels_last() -> None:
    model, x = resize(8, 15), normal(2, 4, 5, 3)
    (before,) = run(model, x=x)
    assert sink_transposes(model).modified
    assert operators(model) == ["Resize"]
    np.testing.assert_allclose(run(model, x=x)[0], before, rtol=1e-5, atol=1e-6)


def test_a_resize_to_a_size_without_an_exact_factor_stays() -> None:
    model = resize(7, 11)  # 11/5 is no float32
    assert not sink_transposes(model).modified
    assert operators(model) == ["Transpose", "Resize", "Transpose"]


def test_a_transpose_that_is_a_graph_output_keeps_its_name_and_layout() -> None:
    text = f"agraph (float[2, 4, 5, 3] x) => (float[2, 3, 4, 5] y) {{ a = {FIRST}(x)\n y = Relu(a) }}"
    model = shaped(parse(text), a=(2, 3, 4, 5))
    model.graph.outputs[0].shape = ir.Shape((2, 3, 4, 5))
    assert same_after(sink_transposes, model, x=normal(2, 4, 5, 3))
    assert operators(model) == ["Relu", "Transpose"] and model.graph.outputs[0].name == "y"
