"""Which int8 products of a QDQ graph may saturate on processors without VNNI (see `pipeline.graph.saturation`)."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from pipeline.graph import saturation
from pipeline.graph.byte_products import byte_products


@dataclass(frozen=True)
class Risk:
    """One int8 product. channels: those of its output channels that may saturate, of `outputs`; worst: the largest pair
    of weights, None where both factors are computed at run time.
    """

    node: ir.Node
    channels: int
    outputs: int
    worst: int | None

    @property
    def may_saturate(self) -> bool:
        return self.worst is None or self.channels > 0

    @property
    def why(self) -> str:
        """What may saturate, for people."""
        if self.worst is None:
            return "both factors are computed at run time"
        return f"{self.channels} of {self.outputs} output channels, |w1| + |w2| up to {self.worst}"


def risks(model: ir.Model) -> list[Risk]:
    """Returns a row for every int8 product, the worst first."""
    found = []
    for product in byte_products(model):
        if product.codes is None:
            found.append(Risk(product.node, 0, 0, None))
            continue
        largest = saturation.pair_sums(product.codes).max(1)
        over = int((largest > saturation.LIMIT).sum())
        found.append(Risk(product.node, over, len(largest), int(largest.max(initial=0))))
    return sorted(found, key=lambda risk: (risk.worst is not None, -(risk.worst or 0)))
