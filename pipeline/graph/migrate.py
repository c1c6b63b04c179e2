"""Outliers of activation channels moved into the weights that read them (SmoothQuant, arXiv:2211.10438).

    x → Q → DQ → MatMul(W)     ->     x / s → Q → DQ → MatMul(s · W)          s [C], one factor per channel

Exact in float. The division is free if nothing else reads x and it can be folded into the operator that computes x: a
LayerNormalization, a linear layer or convolution, or the value projection of an attention block, whose channels pass
through the product with the probabilities untouched. Otherwise, say if a residual add reads x too, it becomes a
multiplication before the Q.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from calibration import ChannelStatistic, choose_factors
from pipeline.graph.build import constant, described, initializer
from pipeline.graph.nodes import DQ, Q, given, producer
from pipeline.graph.pairs import Pair, find_pairs, pairs_of
from pipeline.graph.passes import graph_pass
from pipeline.graph.walks import back, only_read_by

# Decibels of quantization noise that a migration must save: a fold is free, but a multiplication costs time.
LEAST_GAIN = {"fold": 0.1, "multiply": 1.0}
MOVED = "moved"  # meta of the model, not written to files: what was migrated
READERS = frozenset({"MatMul", "Gemm", "Conv"})


@dataclass(frozen=True)
class Moved:
    """One migration: the quantizers whose tensor was divided by `factors`, and where the division went."""

    quantizers: tuple[str, ...]
    factors: np.ndarray  # float32 [C]
    strength: float
    gain_db: float
    into: str


@dataclass(frozen=True)
class _Reader:
    """A product that reads a quantized tensor with stored weights."""

    pair: Pair
    node: ir.Node
    weight: ir.Value

    @property
    def depthwise(self) -> bool:
        return self.node.op_type == "Conv" and self.node.attributes.get_int("group", 1) > 1

    @property
    def spatial(self) -> int:
        """How many axes follow the channels in the tensor: 2 for an image, 0 for a linear layer."""
        return constant(self.weight).ndim - 2 if self.node.op_type == "Conv" else 0

    def array(self) -> np.ndarray:
        """Returns the weights as [N, C, T], or [C, 1, T] for a depthwise convolution."""
        stored = constant(self.weight)
        return stored.reshape(*stored.shape[:2], -1)

    def multiply(self, factors: np.ndarray) -> None:
        """Multiplies the weights' input channels."""
        _scale(self.weight, factors, axis=0 if self.depthwise else 1)


@dataclass(frozen=True)
class _Fold:
    """Where a division can go: the values whose first axis is the channels, and the pairs in between."""

    name: str
    values: tuple[ir.Value, ...]
    between: tuple[Pair, ...] = ()


def migrations(model: ir.Model) -> list[Moved]:
    """Returns what `migrate_outliers` did in a graph."""
    return list(model.meta.get(MOVED, []))


def _unusable(model: ir.Model, channels: Mapping[str, ChannelStatistic]) -> Iterator[str]:
    for migration in migrations(model):
        if not (np.isfinite(migration.factors).all() and (migration.factors > 0).all()):
            yield f"{migration.quantizers[0]} was divided by {migration.factors.min()}"


@graph_pass(ensures=_unusable, requantizes=True, tolerance=1e-5)
def migrate_outliers(model: ir.Model, channels: Mapping[str, ChannelStatistic]) -> bool:
    """Divides tensors if that reduces the quantization error that `channels` predict; `migrations` tells which.

        LayerNorm(g, b) → Q → DQ → MatMul(W)     ->     LayerNorm(g / s, b / s) → Q → DQ → MatMul(s · W)
        x → Q → DQ → MatMul(W)                   ->     x → Mul(1 / s) → Q → DQ → MatMul(s · W)

    channels: {quantizer: statistic per channel} of the original tensors, so none is divided twice. Scales stay: the
    caller sets those of the divided tensors.
    """
    before = migrations(model)
    done = {name for migration in before for name in migration.quantizers}
    new = list(_migrate(model, {name: c for name, c in channels.items() if name not in done}))
    model.meta[MOVED] = [*before, *new]
    return bool(new)


def _migrate(model: ir.Model, channels: Mapping[str, ChannelStatistic]) -> Iterator[Moved]:
    """Yields each migration after applying it."""
    for root, readers in list(_groups(model, channels)):
        weights = [r.array() for r in readers]
        fold = _fold(root, readers, channels)
        passed = [channels[name] for pair in (fold.between if fold else ()) for name in pair.names]
        migration = choose_factors(channels[readers[0].pair.name], weights, also=passed)
        if migration.gain_db < LEAST_GAIN["fold" if fold else "multiply"]:
            continue
        for reader in readers:
            reader.multiply(migration.factors)
        if fold:
            for value in fold.values:
                _scale(value, 1.0 / migration.factors, axis=0)
        else:
            _insert_multiplications(model, readers, migration.factors)
        names = [name for pair in (*(r.pair for r in readers), *(fold.between if fold else ())) for name in pair.names]
        into = fold.name if fold else "multiplication"
        yield Moved(tuple(names), migration.factors, migration.strength, migration.gain_db, into)


def _groups(model: ir.Model, channels: Mapping[str, ChannelStatistic]) -> Iterator[tuple[ir.Value, list[_Reader]]]:
    """Yields (tensor, its readers): the tensor as computed, before any layout operator on the way to a reader."""
    groups: dict[int, tuple[ir.Value, list[_Reader]]] = {}
    for pair in find_pairs(model):
        reader = _reader(pair, channels) if pair.name in channels else None
        if reader is not None:
            root = _root(pair.source)
            groups.setdefault(id(root), (root, []))[1].append(reader)
    yield from groups.values()


def _reader(pair: Pair, channels: Mapping[str, ChannelStatistic]) -> _Reader | None:
    users = list(pair.output.consumers())
    if len(users) != 1 or users[0].op_type not in READERS or users[0].inputs[0] is not pair.output:
        return None
    weight = _stored(users[0].inputs[1])
    if weight is None:
        return None
    reader = _Reader(pair, users[0], weight)
    grouped = users[0].attributes.get_int("group", 1) > 1
    depthwise = reader.array().shape[:2] == (channels[pair.name].channels, 1)
    return None if grouped and not depthwise else reader  # of grouped convolutions only depthwise ones


def _stored(value: ir.Value | None) -> ir.Value | None:
    """Returns the initializer [N, C, …] that a weight comes from, past its Q/DQ pair and a linear layer's transpose.

    None if something else reads it on the way, or if it is stored in another layout.
    """
    path = back(value, lambda node: node.op_type in (Q, DQ, "Transpose"))
    on_the_way = [value, *(node.inputs[0] for node in path.passed)]
    if any(v is None or len(v.uses()) != 1 or v.is_graph_output() for v in on_the_way):
        return None
    if path.end is None or path.end.const_value is None:
        return None
    rank = len(path.end.const_value.shape)
    transposed = any(node.op_type == "Transpose" for node in path.passed)
    return path.end if rank > 2 or (rank == 2 and transposed) else None  # untransposed, it is [C, N]


def _root(value: ir.Value) -> ir.Value:
    """Returns the tensor whose elements a tensor holds in another layout."""
    return back(value).end or value


def _fold(root: ir.Value, readers: list[_Reader], channels: Mapping[str, ChannelStatistic]) -> _Fold | None:
    """Returns where the division of `root` can go, None if other operators read it or its producer cannot take it."""
    node = root.producer()
    if node is None or not _read_only_by(root, {id(r.pair.quantize) for r in readers}):
        return None
    count = channels[readers[0].pair.name].channels
    if node.op_type == "MatMul":
        fold = _through_attention(node, channels)
    elif node.op_type == "LayerNormalization":
        fold = _Fold(node.name or "", tuple(v for v in node.inputs[1:3] if v is not None))
    else:
        fold = _linear(root)
    usable = fold is not None and all(
        v.const_value is not None and tuple(v.const_value.shape)[:1] == (count,) and len(v.uses()) == 1
        for v in fold.values
    )
    return fold if usable else None


def _linear(output: ir.Value) -> _Fold | None:
    """Returns the weight and bias of the linear layer or convolution that computes `output`, else None."""
    node = output.producer()
    if node is None:
        return None
    if node.op_type == "Conv":
        weight, bias = _stored(node.inputs[1]), given(node, 2)
        return _Fold(node.name or "", tuple(v for v in (weight, bias) if v is not None)) if weight else None
    if node.op_type != "Add":
        return None
    for product, bias in (node.inputs, node.inputs[::-1]):
        matmul = producer(product)
        if matmul is None or matmul.op_type != "MatMul" or bias is None or bias.const_value is None:
            continue
        weight = _stored(matmul.inputs[1])
        alone = product is not None and len(product.uses()) == 1 and not product.is_graph_output()
        return _Fold(matmul.name or "", (weight, bias)) if weight is not None and alone else None
    return None


def _through_attention(product: ir.Node, channels: Mapping[str, ChannelStatistic]) -> _Fold | None:
    """Returns the value projection of probabilities × values, [B, H, S, T] × [B, H, T, D], None if it cannot fold."""
    value = product.inputs[1]
    between: tuple[Pair, ...] = ()
    node = producer(value)
    if node is not None and node.op_type == DQ and node.inputs[0] is not None:
        quantize = node.inputs[0].producer()
        if quantize is None or len(node.outputs[0].uses()) != 1 or len(quantize.outputs[0].uses()) != 1:
            return None
        between = tuple(pairs_of(quantize))
        if any(name not in channels for pair in between for name in pair.names):
            return None
        value = quantize.inputs[0]
    if value is None or not _read_only_by(_root(value), {id(between[0].quantize) if between else id(product)}):
        return None
    linear = _linear(_root(value))
    return _Fold(linear.name, linear.values, between) if linear else None


def _read_only_by(value: ir.Value, readers: set[int]) -> bool:
    """Returns whether only these nodes, given by id, read a value, directly or through layout operators."""
    return only_read_by(value, lambda node: id(node) in readers or node.op_type == "Shape", empty=True)


def _insert_multiplications(model: ir.Model, readers: list[_Reader], factors: np.ndarray) -> None:
    products: dict[tuple[int, str], ir.Value] = {}
    for reader in readers:
        source, quantize = reader.pair.source, reader.pair.quantize
        key = (id(source), reader.node.op_type)
        if key not in products:
            shape = (-1, *(1,) * reader.spatial)
            name = f"{reader.pair.name.removesuffix('._input_quantizer')}.migration"
            inverse = initializer(model, name, (1.0 / factors).astype(np.float32).reshape(shape))
            node = described(ir.node("Mul", [source, inverse]), source.shape, f"{name}/Mul")
            model.graph.insert_before(quantize, node)
            products[key] = node.outputs[0]
        quantize.replace_input_with(0, products[key])


def _scale(value: ir.Value, factors: np.ndarray, axis: int) -> None:
    array = constant(value)
    shape = [1] * array.ndim
    shape[axis] = -1
    value.const_value = ir.tensor((array * factors.reshape(shape)).astype(np.float32), name=value.name)
