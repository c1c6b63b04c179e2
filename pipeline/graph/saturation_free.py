"""int8 products that are right on processors without VNNI."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from pipeline.graph import saturation
from pipeline.graph.build import constant, initializer
from pipeline.graph.byte_products import as_rows, byte_products
from pipeline.graph.nodes import PRODUCTS
from pipeline.graph.pairs import Pair, drop_pairs, find_pairs
from pipeline.graph.passes import graph_pass
from pipeline.graph.walks import pair_above

FLOAT_PRODUCT = "a product of two activations may saturate without VNNI: nothing bounds what is computed at run time"


def _saturating(model: ir.Model) -> Iterator[str]:
    for product in byte_products(model):
        if product.codes is None or saturation.may_saturate(product.codes).any():
            yield f"{product.node.name} may still saturate"


@graph_pass(ensures=_saturating, requantizes=True)
def saturation_free(model: ir.Model) -> bool:
    """Raises weight scales until no pair of products can exceed 16 bits; products of two activations become float.

        W → Q(s) → DQ(s) → MatMul          ->     W → Q(s′) → DQ(s′) → MatMul,    s′ ≥ s per output channel
        x → Q → DQ → MatMul ← DQ ← Q ← y   ->     x → MatMul ← y

    Before `store_int8_weights`, which rounds. s′ is `saturation.bounded_scale`; tables and other weights that no
    product reads keep their scale.
    """
    changed = keep_activation_products_float(model).modified
    for pair in list(find_pairs(model)):
        if pair.stored:
            changed |= _bound(model, pair)
    return changed


def _of_activations(model: ir.Model) -> list[ir.Node]:
    return [product.node for product in byte_products(model) if product.codes is None]


@graph_pass(ensures=lambda model: (f"{node.name} is still int8" for node in _of_activations(model)), requantizes=True)
def keep_activation_products_float(model: ir.Model) -> bool:
    """Removes the pairs before products of two activations; `dropped` tells which and why.

    x → Q → DQ → MatMul ← DQ ← Q ← y     ->     x → MatMul ← y
    """
    pairs = [pair_above(value) for node in _of_activations(model) for value in node.inputs[:2]]
    reasons = {name: FLOAT_PRODUCT for pair in pairs if pair is not None for name in pair.names}
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
