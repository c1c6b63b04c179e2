"""A read-only view of a graph: shapes, constants, and the walks through operators that commute with Q and DQ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from onnx_ir.traversal import RecursiveGraphIterator

from pipeline.errors import InputError
from pipeline.graph.nodes import PRODUCTS, commutes, given, maker, op
from pipeline.graph.walks import Path, back, dequantizers

Dim = int | str | None  # known, a symbol, unknown

NEVER_FOLDED = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
    | {"If", "Loop", "Scan"}  # their bodies may read anything
)
HALF = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


class Use(NamedTuple):
    """A reader of a value, and which of its inputs that is."""

    node: ir.Node
    slot: int


@dataclass(frozen=True)
class Reach:
    """Where a value goes, past operators that commute with Q and DQ."""

    uses: tuple[Use, ...]
    outputs: tuple[ir.Value, ...]  # of the graph, or of the body that the value belongs to


class View:
    """One graph with the bodies of its If, Loop and Scan nodes, neither changed nor copied."""

    def __init__(
        self, model: ir.Model, *, bytes: int = 0, external: tuple[str, ...] = (), inference: str | None = None
    ) -> None:
        self.model = model
        self.bytes = bytes  # of the file and its external data
        self.external = external  # names of the data files
        self.inference = inference  # why shapes could not be inferred, None if they were
        self.nodes = tuple(RecursiveGraphIterator(model.graph))
        self.opset = int(model.opset_imports.get("", model.opset_imports.get("ai.onnx", 0)))
        self.outputs = frozenset(id(value) for value in model.graph.outputs)
        self._index = {id(node): i for i, node in enumerate(self.nodes)}
        self._by_op: dict[str, list[ir.Node]] = defaultdict(list)
        for node in self.nodes:
            self._by_op[op(node)].append(node)
        self._constants = _constants(self.nodes)
        self._arrays: dict[int, np.ndarray | None] = {}
        self._int8 = frozenset(id(n) for n in self.of(*PRODUCTS) if all(map(self.dequantizers, self.operands(n))))

    def of(self, *types: str) -> list[ir.Node]:
        """Returns the nodes of some types, in graph order within each type."""
        return [node for name in types for node in self._by_op.get(name, ())]

    def label(self, node: ir.Node) -> str:
        """Returns the node's name, or a substitute if the file gives none."""
        names = (node.name, *(value.name for value in node.outputs))
        return next((name for name in names if name), f"{node.op_type} #{self._index[id(node)]}")

    def dims(self, value: ir.Value | None) -> tuple[Dim, ...] | None:
        """Returns the shape, None if not even the rank is known."""
        tensor = self.tensor(value)
        shape = tensor.shape if tensor is not None else None if value is None else value.shape
        return None if shape is None else tuple(d if isinstance(d, int) else _symbol(d.value) for d in shape)

    def dtype(self, value: ir.Value | None) -> ir.DataType | None:
        """Returns the element type, None if it is unknown."""
        tensor = self.tensor(value)
        return tensor.dtype if tensor is not None else None if value is None else value.dtype

    def tensor(self, value: ir.Value | None) -> ir.TensorProtocol | None:
        """Returns the stored tensor of an initializer or a Constant node, None for a computed value."""
        if value is None or value.const_value is not None or maker(value) != "Constant":
            return None if value is None else value.const_value
        try:
            return ir.convenience.get_const_tensor(value)
        except ValueError:  # a sparse constant
            return None

    def array(self, value: ir.Value | None) -> np.ndarray | None:
        """Returns the elements of a small constant: a scale, a zero point, an axis. Never call it on weights."""
        if value is None or (tensor := self.tensor(value)) is None:
            return None
        if id(value) not in self._arrays:
            try:
                self._arrays[id(value)] = np.asarray(tensor.numpy())
            except (OSError, ValueError) as error:
                raise InputError(f"the values of {value.name} cannot be read: {error}") from error
        return self._arrays[id(value)]

    def is_constant(self, value: ir.Value | None) -> bool:
        """Returns whether a value is known when the engine is built: stored, or computed from stored ones."""
        return value is not None and (value.const_value is not None or id(value) in self._constants)

    def operands(self, node: ir.Node) -> tuple[ir.Value | None, ir.Value | None]:
        """Returns the two factors of a product."""
        return given(node, 0), given(node, 1)

    def back(self, value: ir.Value | None, through: Callable[[ir.Node], bool] = commutes) -> Path:
        """Returns the walk from `value` back along first inputs, as long as `through` allows the operator."""
        return back(value, through)

    def dequantizers(self, value: ir.Value | None) -> tuple[ir.Node, ...]:
        """Returns the DQ nodes that a value comes from: several for a Concat of quantized parts, none for a float."""
        return dequantizers(value)

    def runs_int8(self, node: ir.Node) -> bool:
        """Returns whether both factors of a product come from DQ."""
        return id(node) in self._int8

    def reach(self, value: ir.Value) -> Reach:
        """Returns the readers of a value that neither commute with Q and DQ nor join quantized parts."""
        uses: list[Use] = []
        outputs: list[ir.Value] = []
        stack, seen = [value], {id(value)}
        while stack:
            current = stack.pop()
            if current.is_graph_output():
                outputs.append(current)
            for use in current.uses():
                node = use.node
                if (commutes(node) and use.idx == 0) or (op(node) == "Concat" and self.dequantizers(node.outputs[0])):
                    new = [v for v in node.outputs if id(v) not in seen]
                    seen.update(map(id, new))
                    stack += new
                else:
                    uses.append(Use(node, use.idx))
        return Reach(tuple(uses), tuple(outputs))

    def reaches(self, value: ir.Value, *types: str) -> bool:
        """Returns whether an operator of one of these types reads the value, past operators that commute with Q/DQ."""
        return any(op(use.node) in types for use in self.reach(value).uses)

    def values(self) -> Iterator[ir.Value]:
        """Yields every input, stored tensor and result."""
        yield from self.model.graph.inputs
        yield from self.model.graph.initializers.values()
        for node in self.nodes:
            yield from node.outputs


def _symbol(name: str | None) -> str | None:
    """Returns a dimension's name, None for the numbered ones of shape inference, which say nothing."""
    return None if name is None or name.startswith("unk__") else name


def first_known(*dims: Dim) -> Dim:
    """Returns the first number, else the first symbol, else None."""
    return next((d for kind in (int, str) for d in dims if isinstance(d, kind)), None)


def _constants(nodes: tuple[ir.Node, ...]) -> frozenset[int]:
    """Returns the ids of the values that are computed from stored tensors alone."""
    constants: set[int] = set()
    for node in nodes:
        inputs = [value for value in node.inputs if value is not None]
        known = all(value.const_value is not None or id(value) in constants for value in inputs)
        if op(node) == "Constant" or (inputs and known and op(node) not in NEVER_FOLDED):
            constants.update(map(id, node.outputs))
    return frozenset(constants)
