"""ONNX text in, outputs out: what the tests of graph passes share."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime

from helpers.draws import normal as normal
from pipeline.graph.pairs import QUANTIZER


def parse(body: str, **constants: np.ndarray | np.generic) -> ir.Model:
    """Returns the model of an ONNX text; Q and DQ nodes belong to the quantizer that their output names: 'a_q', 'a'."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {body}')
    for name, value in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    onnx.checker.check_model(proto)
    model = ir.from_proto(proto)
    for node in model.graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.metadata_props[QUANTIZER] = str(node.outputs[0].name).removesuffix("_q")
        node.name = node.outputs[0].name
    return model


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def run(model: ir.Model, **feeds: np.ndarray) -> list[np.ndarray]:
    """Returns the outputs in ONNX Runtime, optimizations off, after a check of the whole model."""
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def same_after(graph_pass: Any, model: ir.Model, **feeds: np.ndarray) -> bool:
    """Applies a pass, asserts bit-identical outputs, returns whether it said that it changed something."""
    before = run(model, **feeds)
    changed = graph_pass(model).modified
    for a, b in zip(before, run(model, **feeds), strict=True):
        np.testing.assert_array_equal(a, b)
    return bool(changed)
