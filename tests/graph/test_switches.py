"""A graph with switches computes what the graph with those pairs removed computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from helpers import qdq_models as models
from pipeline.graph import find_pairs, keep_pairs
from pipeline.graph.pairs import QUANTIZER
from pipeline.graph.switches import SUFFIX, add_switches


def named(path: Path) -> ir.Model:
    model = ir.load(path)
    for number, pair in enumerate(find_pairs(model)):
        pair.quantize.metadata_props[QUANTIZER] = f"q{number}"
    return model


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0])


@pytest.mark.parametrize("make", [models.linear, models.attention], ids=["linear", "a pair read twice"])
def test_a_switch_that_is_off_is_a_pair_that_is_not_there(make: object, tmp_path: Path) -> None:
    path = make(tmp_path / "small.onnx")  # type: ignore[operator]
    shape = (3, 32) if make is models.linear else (3, 5, 32)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    switched = named(path)
    switches = add_switches(switched)
    names = {pair.name for pair in find_pairs(named(path))}
    assert {name.removesuffix(SUFFIX) for name in switches} == names == {"q0", "q1"}
    for off in ((), ("q0",), ("q1",), ("q0", "q1")):
        plain = named(path)
        keep_pairs(plain, names - set(off))
        feeds = {"x": x, **{f"{name}{SUFFIX}": np.asarray(False) for name in off}}
        np.testing.assert_allclose(run(switched, feeds), run(plain, {"x": x}), rtol=1e-5, atol=1e-6)
