"""Probes: outputs with some quantizers turned, equal to those of a graph without them, and no part run for nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from helpers.qdq_models import Graph
from pipeline.bench.sensitivity.probes import Switchboard, frontiers_of
from pipeline.graph import find_pairs, keep_pairs
from pipeline.graph.pairs import QUANTIZER

LAYERS, WIDTH = 12, 16
X = np.random.default_rng(1).standard_normal((4, WIDTH)).astype(np.float32)


def deep(path: Path) -> ir.Model:
    """Layers with a residual add, an activation pair each; the first's input is read again by the last."""
    g = Graph()
    y = first = g.add("Relu", "x")
    for layer in range(LAYERS):
        product = g.add("MatMul", g.quantize(y, 0.05), g.weight(f"w{layer}", (WIDTH, WIDTH), 1))
        y = g.add("Add", g.add("Tanh", product), y)
    y = g.add("Add", y, first)
    model = ir.load(g.save(path / "deep.onnx", {"x": ["n", WIDTH]}, {"y": y}))
    for number, pair in enumerate(find_pairs(model)):
        pair.quantize.metadata_props[QUANTIZER] = f"layer.{number}"
    return model


def plain(path: Path, on: set[str]) -> np.ndarray:
    model = deep(path)
    keep_pairs(model, on)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": X})[0])


@pytest.mark.parametrize("base", [True, False], ids=["all on", "none on"])
def test_a_probe_is_the_graph_without_what_is_off(base: bool, tmp_path: Path) -> None:
    board = Switchboard(deep(tmp_path), {"x": X}, base=base, threads=1)
    names = set(board.pairs)
    assert names == {f"layer.{i}" for i in range(LAYERS)}
    for turned in ((), ("layer.0",), ("layer.7",), ("layer.11",), ("layer.3", "layer.9"), tuple(names)):
        on = names - set(turned) if base else set(turned)
        np.testing.assert_allclose(board.outputs(turned)["y"], plain(tmp_path, on), rtol=1e-5, atol=1e-6)


def test_a_probe_runs_nothing_before_its_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Switchboard(deep(tmp_path), {"x": X}, base=True, threads=1)
    board.outputs()
    sizes = []
    monkeypatch.setattr(Switchboard, "_session", lambda self, inputs, outputs: sizes.append(inputs))
    for layer in (0, 5, 11):
        with pytest.raises(AttributeError, match="get_inputs"):  # the stand-in for a session has nothing to run
            board.outputs([f"layer.{layer}"])
    assert sizes[0] == ["x"] and all("x" not in inputs and len(inputs) == 2 for inputs in sizes[1:])
    assert sizes[1] != sizes[2]


def test_what_is_alive_between_two_nodes(tmp_path: Path) -> None:
    proto = ir.to_proto(deep(tmp_path))
    found = frontiers_of(proto)
    assert found[0] == ["x"] and len(found) == len(proto.graph.node)
    known = {"x", *(t.name for t in proto.graph.initializer)}
    for node, alive in zip(proto.graph.node, found, strict=True):
        inner = set(node.input) - {t.name for t in proto.graph.initializer}
        assert inner <= set(alive) <= known
        known.update(node.output)
