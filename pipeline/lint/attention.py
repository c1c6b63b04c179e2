"""What TensorRT does with an attention block: one int8 kernel, one fp16 kernel, or several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from pipeline.graph.blocks import INT8_HEADS, INT8_LENGTH, POINTS, Block, blocks
from pipeline.graph.nodes import Q, given, op
from pipeline.graph.view import HALF, View
from pipeline.lint.findings import Attention, Target

HALF_HEADS, HALF_STEP = range(16, 257), 8


def late_scaling(view: View, block: Block) -> ir.Node | None:
    """Returns the product or quotient by a constant between scores and softmax."""
    scaling = (n for n in block.between if op(n) in ("Mul", "Div") and any(map(view.is_constant, n.inputs)))
    return next(scaling, None)


def late_transpose(view: View, block: Block) -> ir.Node | None:
    """Returns the Transpose between the key's DQ and the scores."""
    return next((node for node in view.back(given(block.scores, 1)).passed if op(node) == "Transpose"), None)


def too_large(block: Block) -> list[str]:
    """Returns the sizes for which there is no fused int8 attention; what is not known is let pass."""
    faults = []
    if isinstance(block.head_size, int) and block.head_size not in INT8_HEADS:
        faults.append(f"head size {block.head_size} is not 16, 32 or 64")
    for name, length in (("S_q", block.queries), ("S_kv", block.keys)):
        if isinstance(length, int) and length > INT8_LENGTH:
            faults.append(f"{name} {length} is above {INT8_LENGTH}")
    return faults


def attention(view: View, targets: Sequence[Target]) -> Iterator[Attention]:
    """Yields the verdict on every attention block."""
    half = any(view.dtype(value) in HALF for value in view.values())
    for block in blocks(view):
        faults = _faults(view, block)
        if faults:
            verdict, why = "broken", "; ".join(faults)
        elif block.quantized:
            unknown = not (isinstance(block.queries, int) and isinstance(block.keys, int))
            verdict, why = "int8 fused", f"while S_q and S_kv are at most {INT8_LENGTH}" if unknown else ""
        else:
            verdict = "fp16 fused"
            why = "on 10 and 11 once the graph is fp16 (Q31)" if "10" in targets and not half else ""
        yield Attention(
            node=view.label(block.softmax),
            head_size=block.head_size,
            queries=block.queries,
            keys=block.keys,
            quantized=tuple(name for name in POINTS if name in block.points),
            verdict=verdict,  # type: ignore[arg-type]
            why=why,
        )


def _faults(view: View, block: Block) -> list[str]:
    """Returns what keeps TensorRT from one fused kernel."""
    if not block.quantized:
        size = block.head_size
        fits = not isinstance(size, int) or (size in HALF_HEADS and size % HALF_STEP == 0)
        return [] if fits else [f"head size {size} is no multiple of 8 from 16 to 256"]
    faults = [f"no Q/DQ at {', '.join(block.missing)}"] if block.missing else []
    faults += too_large(block)
    if any(op(node) == Q for node in block.between):
        faults.append("Q/DQ between the scores and the softmax")
    if late_scaling(view, block) is not None:
        faults.append("scaled behind the scores instead of before Q")
    if late_transpose(view, block) is not None:
        faults.append("Transpose between the key's DQ and the scores")
    return faults
