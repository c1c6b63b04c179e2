"""Scales that fp16 holds exactly."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from calibration.arithmetic import HIGH, scale_of
from pipeline.errors import InputError
from pipeline.graph.build import constant, initializer
from pipeline.graph.nodes import PRODUCTS
from pipeline.graph.pairs import Pair, drop_pairs, find_pairs
from pipeline.graph.passes import graph_pass
from pipeline.graph.walks import pair_above, readers

LARGEST = 65504.0  # of fp16
SMALLEST = 2.0**-14  # the smallest normal number of fp16, with all 11 bits
LEAST = 2.0**-17  # a step below it would become more than 8 times as coarse


def to_half(scale: np.ndarray) -> np.ndarray:
    """Returns the float32 scale that stands for `scale` in fp16: max(round to 11 bits, 2⁻¹⁴)."""
    return np.maximum(np.asarray(scale, np.float32).astype(np.float16).astype(np.float32), np.float32(SMALLEST))


def _no_half(model: ir.Model) -> Iterator[str]:
    return (f"{p.name}: fp16 has no {p.scale}" for p in find_pairs(model) if (to_half(p.scale) != p.scale).any())


@graph_pass(ensures=_no_half, requantizes=True)
def half_scales(model: ir.Model) -> bool:
    """Gives every pair a scale that is a normal number of fp16.

        Q(s) → DQ(s)     ->     Q(s') → DQ(s')          s' = max(round(s), 2⁻¹⁴)

    Before `keep_fused_attention`, which sees what is dropped here, and before `store_int8_weights`, which then rounds
    weights to multiples of s' itself: the only difference is a coarser step. It grows by at most 2⁻¹¹ of itself, or to
    2⁻¹⁴ in a channel of tiny weights, each of which is then off by at most 2⁻¹⁵: half a step of any channel whose
    largest weight is 0.0078. A product one of whose operands has no step of 2⁻¹⁷ or more would lose more than 3 of 8
    bits everywhere in it; it stays float. Raises InputError for a tensor that reaches beyond fp16.
    """
    beyond = [pair for pair in find_pairs(model) if _reach(pair) > LARGEST]
    if beyond:
        raise InputError(
            f"{len(beyond)} tensors reach beyond {LARGEST:.0f}, the largest number of fp16: "
            + ", ".join(f"{pair.name} ({_reach(pair):.3g})" for pair in beyond[:5])
            + ". Build for TensorRT 8.6 (--set tensorrt.target=8.6) or another backend."
        )
    reasons = _too_fine(model)
    changed = drop_pairs(model, reasons) if reasons else False
    for pair in find_pairs(model):
        scale = to_half(pair.scale)
        shared = pair.dequantize.inputs[1] is pair.quantize.inputs[1]
        if not (shared and np.array_equal(scale, pair.scale)):
            pair.set_inputs(scale=initializer(model, f"{pair.name}.scale_half", scale))
            changed = True
    return changed


def _reach(pair: Pair) -> float:
    """Returns the largest value that a pair represents."""
    return HIGH * float(pair.scale.max())


def _too_fine(model: ir.Model) -> dict[str, str]:
    """Returns {quantizer: why} for pairs that are too fine for fp16 and for the other operands of their products."""
    reasons: dict[str, str] = {}
    for pair in find_pairs(model):
        step = _coarsest_step(pair)
        if step < LEAST:
            products = [node for node in readers(pair.output) if node.op_type in PRODUCTS]
            partners = [pair, *(p for node in products for v in node.inputs if (p := pair_above(v)) is not None)]
            why = f"stays float: the step of {pair.name}, {step:.1e}, is too fine for a scale in fp16"
            reasons.update({name: why for partner in partners for name in partner.names})
    return reasons


def _coarsest_step(pair: Pair) -> float:
    """Returns the largest scale; for a weight from its values, because a channel of zeros has scale 1."""
    return float(scale_of(np.abs(constant(pair.source)).max()) if pair.stored else pair.scale.max())
