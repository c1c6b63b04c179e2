"""The Q/DQ pairs of a graph: finding them, dropping them, giving them scales."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from calibration.arithmetic import Grid, usable
from pipeline.graph.build import constant, described, initializer
from pipeline.graph.nodes import DQ, Q
from pipeline.graph.passes import graph_pass

QUANTIZER = "quantizer"  # metadata of both nodes: the quantizer's name, several joined by a space after a merge
DROPPED = "dropped"  # meta of the model, not written to files: {quantizer: why a pass removed its pair}


@dataclass(frozen=True)
class Pair:
    """One QuantizeLinear → DequantizeLinear."""

    names: tuple[str, ...]
    quantize: ir.Node
    dequantize: ir.Node

    @property
    def name(self) -> str:
        """The name of its first quantizer."""
        return self.names[0]

    @property
    def source(self) -> ir.Value:
        """The float tensor that is quantized."""
        value = self.quantize.inputs[0]
        assert value is not None
        return value

    @property
    def output(self) -> ir.Value:
        """The float tensor that the DQ computes."""
        return self.dequantize.outputs[0]

    @property
    def stored(self) -> bool:
        """Whether it quantizes a stored weight."""
        return self.source.const_value is not None

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

    def set_inputs(self, *, scale: ir.Value | None = None, zero_point: ir.Value | None = None) -> None:
        """Gives both nodes another scale or zero point."""
        for index, value in ((1, scale), (2, zero_point)):
            for node in (self.quantize, self.dequantize) if value is not None else ():
                node.replace_input_with(index, value)


def find_pairs(model: ir.Model) -> Iterator[Pair]:
    """Yields every Q/DQ pair in graph order; a DQ of stored int8 weights has no Q and is not a pair."""
    for node in model.graph:
        if node.op_type == Q:
            yield from pairs_of(node)


def pairs_of(quantize: ir.Node) -> Iterator[Pair]:
    """Yields the pairs of one QuantizeLinear."""
    for user in list(quantize.outputs[0].consumers()):
        if user.op_type == DQ:
            yield pair_of(quantize, user)


def pair_of(quantize: ir.Node, dequantize: ir.Node) -> Pair:
    """Returns the pair of two nodes, with the names that its Q carries."""
    return Pair(tuple(quantize.metadata_props.get(QUANTIZER, quantize.name or "").split()), quantize, dequantize)


def _off(model: ir.Model, enabled: set[str]) -> Iterator[str]:
    return (f"{pair.name} is there" for pair in find_pairs(model) if not enabled.intersection(pair.names))


@graph_pass(ensures=_off, requantizes=True)
def keep_pairs(model: ir.Model, enabled: set[str]) -> bool:
    """Removes every pair none of whose quantizers is enabled:  x → Q → DQ → y   ->   x → y."""
    removed = [pair for pair in find_pairs(model) if not enabled.intersection(pair.names)]
    for pair in removed:
        assert not pair.output.is_graph_output(), "a graph output is never quantized"
        pair.output.replace_all_uses_with(pair.source)
    return bool(removed)


def _foreign(model: ir.Model, scales: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yields one sentence per quantizer whose nodes have another scale or zero point than its own."""
    for pair in find_pairs(model):
        name = pair.name
        own = [model.graph.initializers.get(f"{name}.{kind}") for kind in ("scale", "zero_point")]
        shared = all(list(node.inputs[1:]) == own for node in (pair.quantize, pair.dequantize))
        if not (shared and np.array_equal(pair.scale, scales[name]) and pair.zero_point.dtype == np.int8):
            yield f"{name} has another scale than its own"


@graph_pass(ensures=_foreign, requantizes=True)
def set_scales(model: ir.Model, scales: Mapping[str, np.ndarray]) -> bool:
    """Gives every pair its own scale and zero-point initializers, named after the quantizer:

        Q(s, z) → DQ(s, z)     ->     Q(name.scale, name.zero_point) → DQ(name.scale, name.zero_point)

    scales: {quantizer: float32 scalar or [C]}. Raises ValueError for a pair without one.
    """
    missing = [p.name for p in find_pairs(model) if p.name not in scales]
    if missing:
        raise ValueError(f"no scale for {len(missing)} quantizers, the first is {missing[0]}")
    stale = any(_foreign(model, scales))
    for pair in find_pairs(model):
        name, scale = pair.name, np.asarray(scales[pair.name], dtype=np.float32)
        if not usable(scale).all():
            raise ValueError(f"{name}: a scale must be positive and finite, got {scale.min()}")
        zero_point = np.zeros(scale.shape, dtype=np.int8)
        pair.set_inputs(
            scale=initializer(model, f"{name}.scale", scale),
            zero_point=initializer(model, f"{name}.zero_point", zero_point),
        )
    return stale


def insert_pair(model: ir.Model, names: tuple[str, ...], source: ir.Value, like: Pair, before: ir.Node) -> Pair:
    """Returns a new pair on `source` with the scale, zero point and axis of `like`, placed before a node."""
    attributes = {a.name: a.value for a in like.quantize.attributes.values() if a.name == "axis"}
    parameters = like.quantize.inputs[1:3]
    quantize = ir.node(Q, [source, *parameters], attributes=attributes)
    dequantize = ir.node(DQ, [quantize.outputs[0], *parameters], attributes=attributes)
    described(quantize, source.shape, f"{names[0]}/int8", ir.DataType.INT8)
    described(dequantize, source.shape, f"{names[0]}/output")
    for node in (quantize, dequantize):
        node.metadata_props[QUANTIZER] = " ".join(names)
        node.name = f"{names[0]}/{node.op_type}"
    model.graph.insert_before(before, [quantize, dequantize])
    return Pair(names, quantize, dequantize)


def drop_pairs(model: ir.Model, reasons: Mapping[str, str]) -> bool:
    """Removes the pairs of some quantizers, {quantizer: why}, noted for `dropped`; returns whether there were any."""
    present = {name for pair in find_pairs(model) for name in pair.names}
    model.meta[DROPPED] = {**dropped(model), **reasons}
    return keep_pairs(model, present - set(reasons)).modified


def dropped(model: ir.Model) -> dict[str, str]:
    """Returns {quantizer: why} for everything that passes dropped."""
    return dict(model.meta.get(DROPPED, {}))


def scales_of(model: ir.Model) -> dict[str, np.ndarray]:
    """Returns {quantizer: float32 scale} of a graph, including weights that are stored as int8."""
    return {
        name: constant(node.inputs[1]).astype(np.float32)
        for node in model.graph
        if node.op_type == DQ
        for name in node.metadata_props.get(QUANTIZER, "").split()
    }
