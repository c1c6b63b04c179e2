"""Quantizers that can be turned off while a graph runs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pipeline.graph.build import described, initializer
from pipeline.graph.pairs import Pair, find_pairs

SUFFIX = ".on"


def add_switches(model: ir.Model) -> dict[str, Pair]:
    """Gives every Q/DQ pair a switch, an input with a default. Returns {name of the input: pair}, in graph order.

        x → Q → DQ → y     ->     x → Q → DQ → Where(on, · , x) → y

    The inputs are scalars of type bool and true where nobody says otherwise. No pass: a pass keeps the interface.
    """
    switches: dict[str, Pair] = {}
    for count, pair in enumerate(list(find_pairs(model))):
        name = f"{pair.name}{SUFFIX}"  # one for all pairs that a QuantizeLinear is part of
        if name not in switches:
            switches[name] = pair
            model.graph.inputs.append(initializer(model, name, np.asarray(True)))
        where = ir.node("Where", [model.graph.initializers[name], pair.output, pair.source])
        described(where, pair.source.shape, f"{pair.name}.switched.{count}", pair.source.dtype)
        pair.output.replace_all_uses_with(where.outputs[0])
        where.replace_input_with(1, pair.output)
        graph = pair.dequantize.graph
        assert graph is not None
        graph.insert_after(pair.dequantize, where)
    return switches
