"""Weights stored as int8, in the layout that the product reads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from pipeline.graph.build import constant, initializer
from pipeline.graph.pairs import Pair, find_pairs
from pipeline.graph.passes import rewrite


def _float_weights(model: ir.Model) -> Iterator[tuple[Pair]]:
    return ((pair,) for pair in list(find_pairs(model)) if pair.stored)


@rewrite(_float_weights)
def store_int8_weights(model: ir.Model, pair: Pair) -> None:
    """Replaces a float weight and its Q by the int8 weight; a Transpose after the DQ is applied to the stored bytes.

        W float [N, K] → Q → DQ(axis 0) → Transpose → MatMul     ->     W int8 [K, N] → DQ(axis 1) → MatMul
        W float [N, C, k, k] → Q → DQ(axis 0) → Conv             ->     W int8 → DQ(axis 0) → Conv

    Exact: the same int8 values times the same scales.
    """
    array = pair.grid.quantize(constant(pair.source))
    axis, output = pair.axis, pair.output
    readers = list(output.consumers())
    if len(readers) == 1 and readers[0].op_type == "Transpose":
        order = list(readers[0].attributes["perm"].as_ints())
        array = np.ascontiguousarray(array.transpose(order))
        axis = None if axis is None else order.index(axis)
        readers[0].outputs[0].replace_all_uses_with(output)
        output.shape = ir.Shape(array.shape)
    stored = initializer(model, f"{pair.name.removesuffix('._weight_quantizer')}.weight_int8", array)
    pair.dequantize.replace_input_with(0, stored)
    if axis is not None:
        pair.dequantize.attributes["axis"] = ir.AttrInt64("axis", axis)
