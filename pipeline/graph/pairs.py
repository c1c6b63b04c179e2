"""The Q/DQ pairs of a graph: finding them, dropping them, giving them scales."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from calibration.arithmetic import Grid, usable

QUANTIZER = "quantizer"  # metadata of both nodes: the quantizer's name, several joined by a space after a merge
DROPPED = "dropped"  # meta of the model, not written to files: {quantizer: why a pass removed its pair}


@dataclass(frozen=True)
class Pair:
    """One QuantizeLinear → DequantizeLinear."""

    names: tuple[str, ...]
    quantize: ir.Node
    dequantize: ir.Node

    @property
    def source(self) -> ir.Value:
        """The float tensor that is quantized."""
        value = self.quantize.inputs[0]
        assert value is not None
        return value

    @property
    def scale(self) -> np.ndarray:
        """float32, scalar or [C]."""
        return constant(self.quantize.inputs[1])

    @property
    def zero_point(self) -> np.ndarray:
        return constant(self.quantize.inputs[2])

    @property
    def axis(self) -> int | None:
        """The channel axis, None for one scale per tensor."""
        attribute = self.quantize.attributes.get("axis")
        return None if self.scale.ndim == 0 or attribute is None else attribute.as_int()

    @property
    def grid(self) -> Grid:
        """The numbers that the pair represents."""
        return Grid(self.scale.astype(np.float32), self.axis)


def constant(value: ir.Value | None) -> np.ndarray:
    """Returns the array behind an initializer. Raises ValueError for anything that is computed at run time."""
    if value is None or value.const_value is None:
        raise ValueError(f"{value.name if value else 'a missing input'} is not an initializer")
    return value.const_value.numpy()


def find_pairs(model: ir.Model) -> Iterator[Pair]:
    """Yields every Q/DQ pair in graph order; a DQ on stored int8 weights has no Q and is not a pair."""
    for node in model.graph:
        if node.op_type == "QuantizeLinear":
            yield from pairs_of(node)


def pairs_of(quantize: ir.Node) -> Iterator[Pair]:
    """Yields the pairs of one QuantizeLinear."""
    for user in list(quantize.outputs[0].consumers()):
        if user.op_type == "DequantizeLinear":
            yield pair_of(quantize, user)


def pair_of(quantize: ir.Node, dequantize: ir.Node) -> Pair:
    """Returns the pair of two nodes, with the names that its Q carries."""
    return Pair(tuple(quantize.metadata_props.get(QUANTIZER, quantize.name or "").split()), quantize, dequantize)


def keep_pairs(model: ir.Model, enabled: set[str]) -> bool:
    """Removes every pair none of whose quantizers is enabled:  x → Q → DQ → y   ->   x → y."""
    removed = [pair for pair in find_pairs(model) if not enabled.intersection(pair.names)]
    for pair in removed:
        for output in model.graph.outputs:
            assert output is not pair.dequantize.outputs[0], "a graph output is never quantized"
        pair.dequantize.outputs[0].replace_all_uses_with(pair.source)
    remove_unused(model)
    return bool(removed)


def set_scales(model: ir.Model, scales: Mapping[str, np.ndarray]) -> bool:
    """Gives every pair its own scale and zero-point initializers, named after the quantizer.

    scales: {quantizer: float32 scalar or [C]}. Raises ValueError for a pair without one.
    """
    missing = [p.names[0] for p in find_pairs(model) if p.names[0] not in scales]
    if missing:
        raise ValueError(f"no scale for {len(missing)} quantizers, the first is {missing[0]}")
    for pair in find_pairs(model):
        name, scale = pair.names[0], np.asarray(scales[pair.names[0]], dtype=np.float32)
        if not usable(scale).all():
            raise ValueError(f"{name}: a scale must be positive and finite, got {scale.min()}")
        inputs = (
            initializer(model, f"{name}.scale", scale),
            initializer(model, f"{name}.zero_point", np.zeros(scale.shape, dtype=np.int8)),
        )
        for node in (pair.quantize, pair.dequantize):
            for index, value in enumerate(inputs, start=1):
                node.replace_input_with(index, value)
    remove_unused(model)
    return True


def initializer(model: ir.Model, name: str, array: np.ndarray) -> ir.Value:
    """Returns the graph's initializer `name`, set to `array`."""
    tensor = ir.tensor(array, name=name)
    known = model.graph.initializers.get(name)
    if known is not None:
        known.const_value = tensor
        known.shape, known.dtype = ir.Shape(array.shape), tensor.dtype
        return known
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    model.graph.register_initializer(value)
    return value


def replace_value(old: ir.Value, new: ir.Value) -> None:
    """Gives every reader of `old` the value `new`, which takes its name where it is one of the graph's outputs."""
    name = old.name if old.is_graph_output() else None
    new.type, new.shape = new.type or old.type, new.shape or old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    if name is not None:
        old.name, new.name = f"{name}/replaced", name


def remove_unused(model: ir.Model) -> None:
    """Removes nodes and initializers that nothing reads."""
    common.RemoveUnusedNodesPass()(model)
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del model.graph.initializers[name]


def insert_pair(model: ir.Model, names: tuple[str, ...], source: ir.Value, like: Pair, before: ir.Node) -> Pair:
    """Returns a new pair on `source` with the scale, zero point and axis of `like`, placed before a node."""
    attributes = [a for a in like.quantize.attributes.values() if a.name == "axis"]
    scale, zero_point = like.quantize.inputs[1], like.quantize.inputs[2]
    quantize = ir.node("QuantizeLinear", [source, scale, zero_point], attributes={a.name: a.value for a in attributes})
    dequantize = ir.node(
        "DequantizeLinear", [quantize.outputs[0], scale, zero_point], attributes={a.name: a.value for a in attributes}
    )
    quantize.outputs[0].dtype, quantize.outputs[0].shape = ir.DataType.INT8, source.shape
    dequantize.outputs[0].dtype, dequantize.outputs[0].shape = ir.DataType.FLOAT, source.shape
    for node in (quantize, dequantize):
        node.metadata_props[QUANTIZER] = " ".join(names)
        node.name = f"{names[0]}/{node.op_type}"
    quantize.outputs[0].name, dequantize.outputs[0].name = f"{names[0]}/int8", f"{names[0]}/output"
    model.graph.insert_before(before, [quantize, dequantize])
    return Pair(names, quantize, dequantize)


def drop_pairs(model: ir.Model, reasons: Mapping[str, str]) -> bool:
    """Removes the pairs of some quantizers, {quantizer: why}, which `dropped` tells afterwards."""
    present = {name for pair in find_pairs(model) for name in pair.names}
    model.meta[DROPPED] = {**dropped(model), **reasons}
    return keep_pairs(model, present - set(reasons))


def dropped(model: ir.Model) -> dict[str, str]:
    """Returns {quantizer: why} of what passes dropped."""
    return dict(model.meta.get(DROPPED, {}))


def scales_of(model: ir.Model) -> dict[str, np.ndarray]:
    """Returns {quantizer: float32 scale} as a graph has them, also of weights that are stored as int8."""
    return {
        name: constant(node.inputs[1]).astype(np.float32)
        for node in model.graph
        if node.op_type == "DequantizeLinear"
        for name in node.metadata_props.get(QUANTIZER, "").split()
    }
