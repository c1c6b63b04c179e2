"""For every graph pass a graph that it changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from calibration import ChannelStatistic
from helpers.draws import normal as normal
from helpers.onnx_text import parse
from pipeline.graph.int8_weights import store_int8_weights
from pipeline.graph.linear_pointwise import linear_pointwise
from pipeline.graph.tidy import SCOPES


@dataclass(frozen=True)
class Sample:
    """An ONNX text, its constants, what is done to it before the pass, and what the pass takes besides it."""

    text: str
    constants: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[ir.Model], object] = lambda model: None
    arguments: tuple[Any, ...] = ()

    def build(self) -> ir.Model:
        """Returns the graph with its shapes, the same one every time."""
        model = parse(self.text, **self.constants)
        common.ShapeInferencePass()(model)
        self.prepare(model)
        return model


def feeds(model: ir.Model) -> dict[str, np.ndarray]:
    """Returns inputs: 2 for every open dimension, ids from 0 to 3."""
    rng, found = np.random.default_rng(1), {}
    for value in model.graph.inputs:
        assert value.shape is not None
        shape = [d if isinstance(d, int) else 2 for d in value.shape.dims]
        ids = value.dtype == ir.DataType.INT64
        found[str(value.name)] = rng.integers(0, 4, shape) if ids else rng.standard_normal(shape).astype(np.float32)
    return found


def pair(name: str, source: str, scale: str = "s", zero: str = "z", axis: int | None = None) -> str:
    """source → name_q → name"""
    attribute = "" if axis is None else f"<axis = {axis}>"
    parameters = f"{scale}, {zero}"
    return (
        f"{name}_q = QuantizeLinear{attribute}({source}, {parameters}) "
        f"{name} = DequantizeLinear{attribute}({name}_q, {parameters})"
    )


def weight(name: str, array: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the constants of a weight that is quantized along its first axis."""
    scale = (np.abs(array).reshape(len(array), -1).max(1) / 127).astype(np.float32)
    return {name: array, f"{name}_s": scale, f"{name}_z": np.zeros(len(array), np.int8)}


def weight_pair(name: str) -> str:
    return pair(f"{name}_d", name, f"{name}_s", f"{name}_z", axis=0)


S = {"s": np.float32(0.03), "z": np.int8(0)}
LINEARS = Sample(
    f"""agraph (float[N, 4] x) => (float[N, 2] y) {{
      {pair("a", "x")} h = MatMul(a, w1) {pair("b", "h")} y = MatMul(b, w2) }}""",
    {**S, "w1": normal(4, 3), "w2": normal(3, 2)},
)
WEIGHT = Sample(
    f"""agraph (float[N, 5] x) => (float[N, 3] y) {{
      {pair("a", "x")} {weight_pair("w")} t = Transpose<perm = [1, 0]>(w_d) y = MatMul(a, t) }}""",
    {**S, **weight("w", normal(3, 5))},
)
BESIDE = Sample(  # two readers of one tensor, one of them behind a transpose
    f"""agraph (float[4, 6] x) => (float[6, 4] y) {{
      h = Relu(x) t = Transpose<perm = [1, 0]>(h) {pair("a", "t")} {pair("b", "t")}
      n = Neg(a) e = Exp(b) y = Add(n, e) }}""",
    S,
)
ATTENTION = Sample(  # a head of 24: no int8 kernel for it
    f"""agraph (float[N, 2, 8, 24] q, float[N, 2, 6, 24] k, float[N, 2, 6, 24] v) => (float[N, 2, 8, 3] y) {{
      {pair("qs", "q")} {pair("ks", "k")} {pair("vs", "v")} kt = Transpose<perm = [0, 1, 3, 2]>(ks)
      scores = MatMul(qs, kt) soft = Softmax<axis = -1>(scores) {pair("p", "soft")}
      context = MatMul(p, vs) {pair("c", "context")} y = MatMul(c, w) }}""",
    {**S, "w": normal(24, 3)},
)
TOKENS = Sample(
    """agraph (float[B, 3, 4, 5] x) => (float[B, 3, 4, 5] y) {
      planes = Reshape(x, rows) t = Transpose<perm = [0, 2, 1]>(planes) h = Relu(t)
      u = Transpose<perm = [0, 2, 1]>(h) image = Reshape(u, whole) y = Neg(image) }""",
    {"rows": np.array([-1, 3, 20]), "whole": np.array([-1, 3, 4, 5])},
)
POINTWISE = Sample(
    f"""agraph (float[B, 6, 4, 5] x) => (float[B, 4, 4, 5] y) {{
      {pair("a", "x")} {weight_pair("w")} h = Conv<kernel_shape = [1, 1]>(a, w_d, b) r = Relu(h)
      {pair("c", "r")} {weight_pair("v")} y = Conv<kernel_shape = [1, 1]>(c, v_d) }}""",
    {**S, **weight("w", normal(8, 6, 1, 1)), **weight("v", normal(4, 8, 1, 1)), "b": normal(8)},
    store_int8_weights,
)


def pointwise(model: ir.Model) -> None:
    linear_pointwise(store_int8_weights(model).model)


LOOKUP = Sample(
    f"""agraph (int64[N, S] ids) => (float[N, S, 5] y) {{
      {weight_pair("w")} g = Gather<axis = 0>(w_d, ids) y = Relu(g) }}""",
    weight("w", normal(7, 5)),
    store_int8_weights,
)
NEWER = Sample(
    """agraph (float[N, 6] x) => (float[N, 1] y) {
      g = Gelu(x) l = LayerNormalization(g, one) y = ReduceMean(l, axes) }""",
    {"one": normal(6), "axes": np.array([-1])},
)
FLOAT_WEIGHT = Sample(
    "agraph (float[N, 5] x) => (float[N, 3] y) { t = Transpose<perm = [1, 0]>(w) h = MatMul(x, t) y = Neg(h) }",
    {"w": normal(3, 5)},
)
HALF = Sample(
    f"""agraph (float[N, 4] x) => (float[N, 2] y) {{
      n = LayerNormalization(x, g) {pair("a", "n")} h = MatMul(a, w) p = Softmax<axis = -1>(h) y = Neg(p) }}""",
    {"s": np.float32(2.0**-5), "z": np.int8(0), "g": normal(4), "w": normal(4, 2)},
)


def outlier() -> Sample:
    """Returns a linear layer whose input has a channel 60 times as large as the others."""
    spread = np.array([1, 1, 60, 1, 1, 1], np.float32)
    statistic = ChannelStatistic(6, name="a")
    statistic.collect(np.random.default_rng(2).standard_normal((4096, 6)).astype(np.float32) * spread, -1)
    return Sample(
        f"""agraph (float[N, 6] x) => (float[N, 3] y) {{
          n = LayerNormalization(x, g, b) {pair("a", "n")} {weight_pair("w")} t = Transpose<perm = [1, 0]>(w_d)
          y = MatMul(a, t) }}""",
        {**S, **weight("w", normal(3, 6)), "g": spread, "b": normal(6)},
        arguments=({"a": statistic},),
    )


def traced(model: ir.Model) -> None:
    for node in model.graph:
        node.metadata_props[SCOPES] = repr(["", "encoder", f"encoder.{node.name}", "linear"])


TRACED = Sample(
    """agraph (float[N, 4] x) => (float[N, 3] y) {
      shape = Shape(x) first = Gather(shape, zero) back = Unsqueeze(first, at) width = Constant<value = int64[1] {4}>()
      to = Concat<axis = 0>(back, width) r = Reshape(x, to) h = MatMul(r, w) y = Add(h, b) }""",
    {"w": normal(4, 3), "b": normal(3), "zero": np.int64(0), "at": np.array([0])},
    traced,
)

SAMPLES: dict[str, Sample] = {
    "dither": Sample(LINEARS.text, LINEARS.constants, arguments=(7,)),
    "fold_transposed_weights": FLOAT_WEIGHT,
    "gather_int8_rows": LOOKUP,
    "half_precision": HALF,
    "half_scales": LINEARS,
    "hoist_above_layout": BESIDE,
    "keep_activation_products_float": ATTENTION,
    "keep_fused_attention": ATTENTION,
    "keep_pairs": Sample(LINEARS.text, LINEARS.constants, arguments=({"b"},)),
    "linear_pointwise": POINTWISE,
    "merge_equal_pairs": BESIDE,
    "migrate_outliers": outlier(),
    "opset_17": NEWER,
    "saturation_free": WEIGHT,
    "set_scales": Sample(LINEARS.text, LINEARS.constants, arguments=({"a": np.float32(0.25), "b": np.float32(0.5)},)),
    "sink_below_layout": ATTENTION,
    "sink_transposes": Sample(POINTWISE.text, POINTWISE.constants, pointwise),
    "store_int8_weights": WEIGHT,
    "tidy": TRACED,
    "transpose_images": TOKENS,
    "unsigned_activations": LINEARS,
}
