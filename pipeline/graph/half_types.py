"""Which tensors of a strongly typed graph are fp16 and which stay fp32."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import onnx
import onnx_ir as ir

from pipeline.graph.nodes import DQ, Q, producer

HALF, SINGLE = ir.DataType.FLOAT16, ir.DataType.FLOAT

# Sums over many elements leave fp16's range even if no element does. LayerNormalization and Softmax are no such case.
SUMS = frozenset(
    {f"Reduce{name}" for name in ("L1", "L2", "LogSum", "LogSumExp", "Mean", "Prod", "Sum", "SumSquare")}
    | {"CumSum", "GlobalAveragePool", "InstanceNormalization", "LpNormalization"}
)
BEFORE_SUM = frozenset({"Mul", "Pow"})  # squares
AFTER_SUM = frozenset({"Add", "Pow", "Reciprocal", "Sqrt"})  # of a variance and its epsilon
ANY_FLOAT = frozenset({"Cast", "Shape", "Size"})  # take either type

Use = tuple[ir.Node, int]


class Types:
    """The type of every float tensor and of every float operand, decided before anything is changed.

    fp16 everywhere except the graph's inputs and outputs, operands without an fp16 form in ONNX (Range, the scales of a
    Resize), and sums with the squares before and the root after them.
    """

    def __init__(self, model: ir.Model) -> None:
        self._version = model.opset_imports[""]
        self._single = set(islands(model))
        self.made = {v: self._made(node, i) for node in model.graph for i, v in enumerate(node.outputs) if is_float(v)}
        uses = [(node, i) for node in model.graph for i, value in enumerate(node.inputs) if is_float(value)]
        self.wanted: dict[Use, ir.DataType | None] = {(node, i): self._wanted(node, i) for node, i in uses}

    def _made(self, node: ir.Node, index: int) -> ir.DataType:
        if node.op_type == DQ:
            readers = {self._operand(use.node, use.idx) for use in node.outputs[0].uses()}
            return SINGLE if readers == {SINGLE} else HALF
        return SINGLE if node in self._single or not self._has_half(node, "outputs", index) else HALF

    def _wanted(self, node: ir.Node, index: int) -> ir.DataType | None:
        """Returns the type of an operand, None if the operator takes either.

        A Q takes its source as it is, with a scale of that type: a Cast before it could not be fused.
        """
        if node.op_type == Q:
            source = node.inputs[0]
            return self.made.get(source, SINGLE) if source is not None and source.const_value is None else HALF
        if node.op_type == DQ:
            return self.made[node.outputs[0]]
        return self._operand(node, index)

    def _operand(self, node: ir.Node, index: int) -> ir.DataType | None:
        if node.op_type in ANY_FLOAT:
            return None
        return SINGLE if node in self._single or not self._has_half(node, "inputs", index) else HALF

    def _has_half(self, node: ir.Node, side: str, index: int) -> bool:
        """Returns whether ONNX has an fp16 form of an operator's input or output."""
        if node.domain not in ("", "ai.onnx"):
            return True
        formal = getattr(onnx.defs.get_schema(node.op_type, self._version), side)
        return "tensor(float16)" in formal[min(index, len(formal) - 1)].types  # the last one may be variadic

    @cached_property
    def halves(self) -> list[ir.Value]:
        """Every tensor that an operator computes in fp16."""
        return [value for value, kind in self.made.items() if kind == HALF]


def is_float(value: ir.Value | None) -> bool:
    """Returns whether a tensor is float32."""
    return value is not None and value.dtype == SINGLE


def islands(model: ir.Model) -> Iterator[ir.Node]:
    """Yields the operators that are computed in fp32: sums, the squares they add up and the root of the result.

    x² is beyond fp16 from x = 256 on, and a layer norm's epsilon of 1e-12 below its smallest number.
    """
    for node in model.graph:
        if node.op_type not in SUMS:
            continue
        yield node
        square = producer(node.inputs[0])
        if square is not None and square.op_type in BEFORE_SUM and len(square.outputs[0].uses()) == 1:
            yield square
        yield from _after(node.outputs[0])


def _after(value: ir.Value) -> Iterator[ir.Node]:
    for node in value.consumers():
        others = [v for v in node.inputs if v is not value]
        if node.op_type in AFTER_SUM and all(v is not None and v.const_value is not None for v in others):
            yield node
            yield from _after(node.outputs[0])
