"""What a Q or a DQ carries: its scale, zero point and axis, and the pairs that share them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pipeline.graph.nodes import DQ, Q, given, number, op, producer
from pipeline.graph.view import View

ONNX_DEFAULT_AXIS = 1


@dataclass(frozen=True)
class Parameters:
    """What a Q or DQ node is given; None for what is left out or computed at run time."""

    scale: np.ndarray | None
    zero_point: np.ndarray | None
    axis: int | None  # as it is written

    @property
    def channels(self) -> int | None:
        """The length of a scale per channel; None for one scale, which may be written as a list of one."""
        return self.scale.size if self.scale is not None and self.scale.ndim == 1 and self.scale.size > 1 else None


def parameters(view: View, node: ir.Node) -> Parameters:
    """Returns the parameters of a Q or DQ node."""
    return Parameters(view.array(given(node, 1)), view.array(given(node, 2)), number(node, "axis"))


def same_parameters(view: View, a: ir.Node, b: ir.Node) -> bool:
    """Returns whether two nodes have equal scales, zero points and, where there are channels, axes.

    A float32 scale equals a float16 one of the same value: behind a float32 input a strongly typed graph needs both.
    """
    for index in (1, 2):
        x, y = given(a, index), given(b, index)
        if x is not y and not _equal(view.array(x), view.array(y)):
            return False
    return parameters(view, a).channels is None or number(a, "axis") == number(b, "axis")


def _equal(x: np.ndarray | None, y: np.ndarray | None) -> bool:
    if x is None or y is None:
        return False
    integers = x.dtype.kind in "iu" or y.dtype.kind in "iu"
    same_kind = x.dtype == y.dtype if integers else True
    return same_kind and x.size == y.size and bool((_plain(x) == _plain(y)).all())


def _plain(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1).astype(np.float64)  # of any float type, those that numpy does not have too


def quantizers(view: View) -> Iterator[ir.Node]:
    """Yields every Q, and every DQ that has no Q before it or other parameters than it: each set is judged once.

    Types count here: equal scales of two types are two sets.
    """
    yield from view.of(Q)
    for node in view.of(DQ):
        before = producer(given(node, 0))
        behind = before is not None and op(before) == Q and same_parameters(view, before, node)
        if before is None or not behind or view.dtype(given(before, 1)) != view.dtype(given(node, 1)):
            yield node


def quantized_type(view: View, node: ir.Node) -> ir.DataType | None:
    """Returns the integer type of a Q or DQ: of its zero point, else of the integers that it makes or reads."""
    zero_point = given(node, 2)
    if zero_point is not None:
        return view.dtype(zero_point)
    return view.dtype(node.outputs[0] if op(node) == Q else node.inputs[0])


def dequantizers_of(quantize: ir.Node) -> list[ir.Node]:
    """Returns the DQ nodes that read a Q."""
    return [use.node for use in quantize.outputs[0].uses() if op(use.node) == DQ and use.idx == 0]


def same_scale(view: View, a: ir.Node, b: ir.Node) -> bool:
    """Returns whether two nodes have equal scales, written as one number or as a list."""
    return _equal(parameters(view, a).scale, parameters(view, b).scale)
