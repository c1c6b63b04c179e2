"""A graph whose quantizers round slightly differently, as another correct runtime might."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from pipeline.graph.nodes import producer
from pipeline.graph.pairs import Pair, find_pairs
from pipeline.graph.passes import graph_pass

STEPS = {ir.DataType.FLOAT: 2.0**-8, ir.DataType.FLOAT16: 2.0**-4}  # shares of a step: 8 × what kernels differ by


def _exact(model: ir.Model) -> Iterator[Pair]:
    """Yields one pair per activation quantizer that is not dithered."""
    seen = set()
    for pair in list(find_pairs(model)):
        before = producer(pair.source)
        noisy = before is not None and before.name == f"{pair.quantize.name}.dithered"
        if not (pair.stored or noisy or pair.quantize in seen):
            seen.add(pair.quantize)
            yield pair


def _undithered(model: ir.Model, seed: int) -> Iterator[str]:
    return (f"{pair.name} is exact" for pair in _exact(model))


@graph_pass(ensures=_undithered, requantizes=True, tolerance=1e-2)
def dither(model: ir.Model, seed: int) -> bool:
    """Adds uniform noise, a share of a step wide, before every quantizer of an activation.

        x → Q(s)     ->     x → Add(· , RandomUniformLike(−d·s, d·s)) → Q(s)

    In float32 a value of up to 127 steps carries an error of 1e-5 steps from one operation and some 1e-4 from a
    LayerNorm or GELU; in fp16 0.06 steps. More noise changes little: see `pipeline.judge.parity`.
    """
    pairs = list(_exact(model))
    for number, pair in enumerate(pairs, start=1):
        _dither(pair.quantize, float(pair.scale.min()), seed + number)
    return bool(pairs)


def _dither(quantize: ir.Node, scale: float, seed: int) -> None:
    source = quantize.inputs[0]
    assert source is not None
    kind = source.dtype or ir.DataType.FLOAT
    width = STEPS[kind] * scale
    noise = ir.node(
        "RandomUniformLike",
        [source],
        {"low": -width, "high": width, "seed": float(seed), "dtype": int(ir.DataType.FLOAT)},
        name=f"{quantize.name}.dither",
    )
    added = noise.outputs[0]
    nodes = [noise]
    if kind != ir.DataType.FLOAT:
        nodes.append(ir.node("Cast", [added], {"to": int(kind)}, name=f"{quantize.name}.dither_cast"))
        added = nodes[-1].outputs[0]
    nodes.append(ir.node("Add", [source, added], name=f"{quantize.name}.dithered"))
    graph = quantize.graph
    assert graph is not None
    graph.insert_before(quantize, nodes)
    quantize.replace_input_with(0, nodes[-1].outputs[0])
