"""Which products run in int8, on which codes: what stands between a DQ and its product, on the runtimes' kernels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from helpers.qdq_models import Graph
from helpers.usable import USABLE, saturates_here
from pipeline import backends
from pipeline.graph import BY_NAME, dropped, find_pairs
from pipeline.graph.byte_products import byte_products
from pipeline.graph.pairs import QUANTIZER
from pipeline.graph.saturation import LIMIT
from pipeline.graph.saturation_risk import risks
from pipeline.judge.reference import exact_session

WIDTH = 16
ZEROS = {"u8 128": (np.uint8(128), 127), "u8 0": (np.uint8(0), 255), "i8 0": (np.int8(0), 127)}  # and the largest value

Between = Callable[[Graph, str], str]


def integers(g: Graph, *values: int) -> str:
    return g.constant(f"integers_{len(g.constants)}", np.array(values, np.int64))


def number(g: Graph, value: float) -> str:
    return g.constant(f"number_{len(g.constants)}", np.float32(value))


def joined(g: Graph, x: str) -> str:
    return g.add("Concat", x, x, axis=2)


def sliced(g: Graph, x: str) -> str:
    return g.add("Slice", x, integers(g, 0), integers(g, 4), integers(g, 2))


def split(g: Graph, x: str, axis: int) -> str:
    """Returns the first of two halves."""
    half = g.add("Split", x, axis=axis, num_outputs=2)
    g.nodes[-1].output.append(f"{half}_rest")
    return half


# operators between DQ and a convolution, past which OpenVINO takes DQ: with a zero point of 0, or with any
SEEN_THROUGH: dict[str, tuple[bool, Between]] = {
    "Transpose": (True, lambda g, x: g.add("Transpose", x, perm=[0, 1, 3, 2])),
    "Slice": (True, sliced),
    "Split": (True, lambda g, x: split(g, x, 2)),
    "Pad": (True, lambda g, x: g.add("Pad", x, integers(g, 0, 0, 1, 1, 0, 0, 1, 1))),
    "Expand": (True, lambda g, x: g.add("Expand", x, integers(g, 3, WIDTH, 8, 8))),
    "Gather": (True, lambda g, x: g.add("Gather", x, integers(g, 0, 2), axis=2)),
    "MaxPool": (True, lambda g, x: g.add("MaxPool", x, kernel_shape=[2, 2])),
    "GlobalMaxPool": (True, lambda g, x: g.add("GlobalMaxPool", x)),
    "AveragePool": (True, lambda g, x: g.add("AveragePool", x, kernel_shape=[2, 2])),
    "ReduceMax": (True, lambda g, x: g.add("ReduceMax", x, integers(g, 3))),
    "Resize": (
        True,
        lambda g, x: g.add("Resize", x, "", g.constant("twice", np.float32([1, 1, 2, 2])), mode="nearest"),
    ),
    "Mul": (True, lambda g, x: g.add("Mul", number(g, 0.5), x)),
    "Div": (True, lambda g, x: g.add("Div", x, number(g, 2))),
    "Neg": (True, lambda g, x: g.add("Neg", x)),
    "Cast": (True, lambda g, x: g.add("Cast", x, to=1)),
    "Concat": (False, joined),
    "Relu": (False, lambda g, x: g.add("Relu", x)),
    "Sub": (False, lambda g, x: g.add("Sub", x, number(g, 2))),
    "all": (False, lambda g, x: g.add("MaxPool", g.add("Relu", sliced(g, joined(g, x))), kernel_shape=[2, 2])),
}
FLOAT: dict[str, Between] = {
    "Clip": lambda g, x: g.add("Clip", x, number(g, -100), number(g, 1000)),
    "Abs": lambda g, x: g.add("Abs", x),
    "Sum": lambda g, x: g.add("Add", x, x),
    "ReduceMean": lambda g, x: g.add("ReduceMean", x, integers(g, 3)),
    "GlobalAveragePool": lambda g, x: g.add("GlobalAveragePool", x),
    "Concat with a float": lambda g, x: g.add("Concat", x, "x", axis=2),
    "linear Resize": lambda g, x: g.add("Resize", x, "", g.constant("twice", np.float32([1, 1, 2, 2])), mode="linear"),
}


def convolution(path: Path, between: Between, zero: Any) -> Path:
    """x [1, 16, 8, 8] → Q → DQ → between → a 1×1 convolution whose weights are the largest there are."""
    g = Graph()
    parameters = g.constant("one", np.float32(1)), g.constant("zero", zero)
    x = between(g, g.add("DequantizeLinear", g.add("QuantizeLinear", "x", *parameters), *parameters))
    codes = g.constant("codes", np.full((WIDTH, WIDTH, 1, 1), 127, np.int8))
    scales, zeros = g.constant("scales", np.ones(WIDTH, np.float32)), g.constant("zeros", np.zeros(WIDTH, np.int8))
    y = g.add("Conv", x, g.add("DequantizeLinear", codes, scales, zeros, axis=0))
    return g.save(path, {"x": [1, WIDTH, 8, 8]}, {"y": y})


def is_wrong(backend: str, path: Path, value: float) -> bool:
    """Returns whether an engine gives less than the graph says for the largest input there is."""
    module, feeds = backends.get(backend), {"x": np.full((1, WIDTH, 8, 8), value, np.float32)}
    module.build(path, path.with_suffix(""), None)  # type: ignore[arg-type]
    found = module.load(path.with_suffix(""), 1)(feeds)["y"]
    exact = exact_session(path, 1)(feeds)["y"]
    return bool(np.abs(found - exact).max() > 0.01 * np.abs(exact).max())


@pytest.mark.parametrize("zero", ZEROS)
@pytest.mark.parametrize("name", SEEN_THROUGH)
def test_a_product_behind_what_runtimes_see_through_is_known(name: str, zero: str, tmp_path: Path) -> None:
    any_zero, between = SEEN_THROUGH[name]
    path = convolution(tmp_path / "m.onnx", between, ZEROS[zero][0])
    assert [risk.may_saturate for risk in risks(ir.load(path))] == [True]
    if "openvino" in USABLE and saturates_here("openvino") and (any_zero or zero == "u8 0"):
        assert is_wrong("openvino", path, ZEROS[zero][1])


@pytest.mark.parametrize("zero", ZEROS)
@pytest.mark.parametrize("name", FLOAT)
@pytest.mark.parametrize("backend", USABLE)
def test_what_is_not_known_is_computed_in_float(backend: str, name: str, zero: str, tmp_path: Path) -> None:
    path = convolution(tmp_path / "m.onnx", FLOAT[name], ZEROS[zero][0])
    assert not risks(ir.load(path))
    assert not is_wrong(backend, path, ZEROS[zero][1])


@pytest.mark.skipif("onnxruntime" not in USABLE, reason="needs ONNX Runtime")
def test_onnxruntime_sees_through_a_slice(tmp_path: Path) -> None:
    g = Graph(signed=False)
    x = g.add("Slice", g.quantize("x", 1.0), integers(g, 0), integers(g, 4), integers(g, 2))
    codes = g.constant("codes", np.full((WIDTH // 2, WIDTH), 127, np.int8))
    scales, zeros = g.constant("scales", np.ones(WIDTH, np.float32)), g.constant("zeros", np.zeros(WIDTH, np.int8))
    w = g.add("DequantizeLinear", codes, scales, zeros, axis=1)
    path = g.save(tmp_path / "m.onnx", {"x": [1, WIDTH, 8, 8]}, {"y": g.add("MatMul", x, w)})
    assert [risk.may_saturate for risk in risks(ir.load(path))] == [True]
    assert is_wrong("onnxruntime", path, 127) == saturates_here("onnxruntime")


# --- the codes of a stored weight ---

WEIGHTS: dict[str, Between] = {
    "Concat": lambda g, w: g.add("Concat", w, w, axis=1),
    "Slice": lambda g, w: g.add("Slice", w, integers(g, 1), integers(g, 9), integers(g, 1), integers(g, 3)),
    "Gather": lambda g, w: g.add("Gather", w, integers(g, 5, 0, 5), axis=1),
    "Expand": lambda g, w: g.add("Expand", w, integers(g, 2, 1, 1)),
    "Split": lambda g, w: split(g, w, 1),
    "Reshape": lambda g, w: g.add("Reshape", w, integers(g, 1, WIDTH, WIDTH)),
    "Transpose": lambda g, w: g.add("Transpose", w, perm=[1, 0]),
    "Mul": lambda g, w: g.add("Mul", w, number(g, 0.5)),
    "Transpose, Slice": lambda g, w: WEIGHTS["Slice"](g, WEIGHTS["Transpose"](g, w)),
}


def product(path: Path, between: Between, codes: np.ndarray) -> ir.Model:
    """x [1, 8, 16] → Q → DQ → MatMul with what is between a stored weight of scale 1 and it."""
    g = Graph(signed=False)
    scale, zero = g.constant("scale", np.float32(1)), g.constant("zero", np.int8(0))
    w = between(g, g.add("DequantizeLinear", g.constant("codes", codes), scale, zero))
    y = g.add("MatMul", g.quantize("x", 1.0), w)
    return ir.load(g.save(path, {"x": [1, 8, WIDTH]}, {"y": y}))


@pytest.mark.parametrize("name", WEIGHTS)
def test_codes_are_those_that_the_product_reads(name: str, tmp_path: Path) -> None:
    codes = np.random.default_rng(4).integers(-127, 128, (WIDTH, WIDTH)).astype(np.int8)
    (found,) = byte_products(product(tmp_path / "m.onnx", WEIGHTS[name], codes))
    units = np.eye(WIDTH, dtype=np.float32)[None]
    factors = [exact_session(tmp_path / "m.onnx", 1)({"x": part})["y"] for part in np.split(units, 2, axis=1)]
    columns = np.concatenate(np.broadcast_arrays(*factors), axis=-2)  # [.., K, N]
    expected = np.swapaxes(columns, -1, -2).reshape(-1, 1, WIDTH) * (2 if name == "Mul" else 1)
    assert found.codes is not None and found.codes.dtype == np.int8
    np.testing.assert_array_equal(found.codes, expected)


def test_a_weight_that_is_not_followed_may_saturate(tmp_path: Path) -> None:
    codes = np.ones((WIDTH, WIDTH), np.int8)
    (found,) = byte_products(product(tmp_path / "m.onnx", lambda g, w: g.add("Relu", w), codes))
    assert found.codes is None
    by_channel: Between = lambda g, w: g.add("Mul", w, g.constant("each", np.ones(WIDTH, np.float32)))  # noqa: E731
    (found,) = byte_products(product(tmp_path / "m.onnx", by_channel, codes))
    assert found.codes is None


def test_the_pass_leaves_nothing_behind_an_operator_that_may_saturate(tmp_path: Path) -> None:
    """A weight behind a Slice is not bounded: its product becomes float, as those of two activations do."""
    g = Graph(signed=False)
    values = np.abs(g.rng.standard_normal((WIDTH, 32))).astype(np.float32)
    dequantized = {}
    for name in ("sliced", "plain"):
        s = g.constant(f"{name}.scale", np.full(32, 0.02, np.float32))
        z = g.constant(f"{name}.zero", np.zeros(32, np.int8))
        q = g.add("QuantizeLinear", g.constant(name, values), s, z, axis=1)
        dequantized[name] = g.add("DequantizeLinear", q, s, z, axis=1)
    x = g.quantize("x", 0.03)
    part = g.add("Slice", dequantized["sliced"], integers(g, 0), integers(g, WIDTH), integers(g, 1))
    y = g.add("MatMul", x, part)
    p = g.quantize(g.add("Slice", y, integers(g, 0), integers(g, 4), integers(g, 1)), 0.5)
    both = g.add("MatMul", g.add("Relu", p), g.add("Transpose", p, perm=[0, 2, 1]))
    plain = g.add("MatMul", g.quantize("other", 0.03), dequantized["plain"])
    g.save(tmp_path / "m.onnx", {"x": [1, 8, WIDTH], "other": [1, 8, WIDTH]}, {"y": both, "z": plain})
    model = ir.load(tmp_path / "m.onnx")
    for pair in find_pairs(model):
        for node in (pair.quantize, pair.dequantize):
            node.metadata_props[QUANTIZER] = str(pair.source.name)
    assert [risk.may_saturate for risk in risks(model)] == [True, True, True]
    assert BY_NAME["saturation_free"](model).modified
    assert {name.partition("_")[0] for name in dropped(model)} == {"x", "sliced", "slice"}
    (left,) = risks(model)
    assert not left.may_saturate and left.worst is not None and left.worst <= LIMIT
    assert not BY_NAME["saturation_free"](model).modified
