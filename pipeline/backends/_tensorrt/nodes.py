"""The arithmetic of an ONNX graph by node, and what its node names say of the PyTorch model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.backends._tensorrt.shapes import DYNAMIC, sized
from pipeline.measure import precision

if TYPE_CHECKING:
    from pipeline.recipe import Shapes

log = logging.getLogger(__name__)

PAIR_OPERATORS = ("QuantizeLinear", "DequantizeLinear")


def flops(graph: bytes, shapes: Shapes) -> dict[str, int]:
    """Returns {node: flops} of every matrix product and convolution of an ONNX graph at batch 1.

    Nothing without the package onnx, which only this needs: int8_flop_share then takes the sizes that the engine tells.
    """
    try:
        import onnx
    except ImportError:
        log.info("onnx is not installed: the share of int8 arithmetic is estimated from the engine's own sizes")
        return {}
    model = onnx.load_from_string(graph)
    symbols: dict[str, int] = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        opened = tuple(d.dim_value if d.HasField("dim_value") else DYNAMIC for d in dims)
        for dim, size in zip(dims, sized(value.name, opened, shapes), strict=True):
            if dim.dim_param:
                symbols[dim.dim_param] = 1 if size == DYNAMIC else size
            dim.dim_value = 1 if size == DYNAMIC else size
    for value in (*model.graph.value_info, *model.graph.output):
        _resolve(value.type.tensor_type.shape.dim, symbols)
    known = _shapes(onnx.shape_inference.infer_shapes(model, data_prop=True))
    return {node.name: found for node in model.graph.node if (found := _of(node, known))}


def _resolve(dims: Any, symbols: Mapping[str, int]) -> None:
    """Gives the axes that are named as an input's their size; axes of other names become unknown."""
    for dim in dims:
        name = dim.dim_param
        if name in symbols:
            dim.dim_value = symbols[name]
        elif name:
            dim.Clear()


def _shapes(model: Any) -> dict[str, list[int]]:
    """Returns {value: shape} of all that shape inference could size."""
    found = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if all(d.HasField("dim_value") for d in dims):
            found[value.name] = [d.dim_value for d in dims]
    return found


def _of(node: Any, known: Mapping[str, list[int]]) -> int:
    if node.op_type not in ("MatMul", "Gemm", "Conv"):
        return 0
    names = (*node.input[:2], node.output[0])
    if any(name not in known for name in names):
        log.debug("%s: a shape is unknown, its arithmetic is not counted", node.name)
        return 0
    first, second, out = (known[name] for name in names)
    return precision.conv_flops(second, out) if node.op_type == "Conv" else precision.matmul_flops(first, second, out)


def module_of(node: str) -> str:
    """Returns the path of the PyTorch module that a node came from: '<module path>/<operator>'."""
    return node.rpartition("/")[0]


def is_pair_operator(node: str) -> bool:
    """Returns whether a node is a QuantizeLinear or DequantizeLinear."""
    return node.rpartition("/")[2].startswith(PAIR_OPERATORS)


def is_product(node: str) -> bool:
    """Returns whether a node is a matrix product or a convolution."""
    return node.rpartition("/")[2].startswith(("MatMul", "Gemm", "Conv"))
