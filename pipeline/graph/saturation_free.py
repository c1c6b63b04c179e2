"""int8 products that are right on processors without VNNI."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from pipeline.graph import saturation
from pipeline.graph.build import constant, initializer
from pipeline.graph.byte_products import as_rows, byte_products, carried
from pipeline.graph.nodes import PRODUCTS, Q, producer
from pipeline.graph.pairs import Pair, drop_pairs, find_pairs, pair_of
from pipeline.graph.passes import graph_pass
from pipeline.graph.walks import dequantizers

FLOAT_PRODUCT = "a product of two activations may saturate without VNNI: nothing bounds what is computed at run time"
REARRANGED = "a weight that is rearranged before its product may saturate without VNNI: its scale is not bounded there"


def _saturating(model: ir.Model) -> Iterator[str]:
    for product in byte_products(model):
        if product.codes is None or saturation.may_saturate(product.codes).any():
            yield f"{product.node.name} may still saturate"


@graph_pass(ensures=_saturating, requantizes=True)
def saturation_free(model: ir.Model) -> bool:
    """Raises weight scales until no pair of products can exceed 16 bits; products of two activations become float.

        W → Q(s) → DQ(s) → MatMul          ->     W → Q(s′) → DQ(s′) → MatMul,    s′ ≥ s per output channel
        x → Q → DQ → MatMul ← DQ ← Q ← y   ->     x → MatMul ← y

    So does a product that may still saturate: a weight that reaches it past more than a Transpose is not bounded.
    Before `store_int8_weights`, which rounds. s′ is `saturation.bounded_scale`; tables and other weights that no
    product reads keep their scale.
    """
    changed = keep_activation_products_float(model).modified
    for pair in list(find_pairs(model)):
        if pair.stored:
            changed |= _bound(model, pair)
    rearranged = [
        p.node for p in byte_products(model) if p.codes is not None and saturation.may_saturate(p.codes).any()
    ]
    return changed | _make_float(model, rearranged, REARRANGED)


def _of_activations(model: ir.Model) -> list[ir.Node]:
    return [product.node for product in byte_products(model) if product.codes is None]


@graph_pass(ensures=lambda model: (f"{node.name} is still int8" for node in _of_activations(model)), requantizes=True)
def keep_activation_products_float(model: ir.Model) -> bool:
    """Removes the pairs before products of two activations; `dropped` tells which and why.

    x → Q → DQ → MatMul ← DQ ← Q ← y     ->     x → MatMul ← y
    """
    return _make_float(model, _of_activations(model), FLOAT_PRODUCT)


def _make_float(model: ir.Model, products: list[ir.Node], reason: str) -> bool:
    """Removes the pairs that both factors of some products come from; returns whether there were any."""
    sources = [dq for node in products for value in node.inputs[:2] for dq in dequantizers(value, carried)]
    quantizers = [(producer(dq.inputs[0]), dq) for dq in sources]
    pairs = [pair_of(q, dq) for q, dq in quantizers if q is not None and q.op_type == Q]  # others are stored int8
    reasons = {name: reason for pair in pairs for name in pair.names}
    return drop_pairs(model, reasons) if reasons else False


def _bound(model: ir.Model, pair: Pair) -> bool:
    """Gives a weight's pair the least scale at which its products cannot saturate; returns whether that changed it."""
    weight, scale = constant(pair.source), np.atleast_1d(pair.scale)
    bounded = scale
    for node, index, order in _readers(pair.output, tuple(range(weight.ndim))):
        rows = as_rows(node, index, weight.transpose(order))
        if rows.shape[1:] == (1, 1):
            continue
        each = saturation.bounded_scale(rows, np.resize(scale, len(rows)))
        bounded = np.maximum(bounded, each.reshape(-1, len(scale)).max(0))
    if np.array_equal(bounded, scale):
        return False
    value = initializer(model, str(pair.quantize.inputs[1].name), bounded.reshape(pair.scale.shape))  # type: ignore[union-attr]
    assert value is pair.quantize.inputs[1] is pair.dequantize.inputs[1]
    return True


def _readers(value: ir.Value, order: tuple[int, ...]) -> list[tuple[ir.Node, int, tuple[int, ...]]]:
    """Returns the products that read a weight, which of their inputs it is, and the order of its axes there."""
    products = []
    for use in value.uses():
        if use.node.op_type in PRODUCTS and use.idx < 2:
            products.append((use.node, use.idx, order))
        elif use.node.op_type == "Transpose":
            perm = use.node.attributes["perm"].as_ints()
            products += _readers(use.node.outputs[0], tuple(order[axis] for axis in perm))
    return products
