"""Which int8 products of a QDQ graph may saturate on processors without VNNI; see `pipeline.graph.saturation`."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from pipeline.graph import saturation
from pipeline.graph.byte_products import byte_products


@dataclass(frozen=True)
class Risk:
    """One int8 product and how far its sums may saturate."""

    node: ir.Node
    channels: int  # output channels that may saturate
    outputs: int  # output channels
    worst: int | None  # the largest |w₁| + |w₂|, None if neither factor is known before it runs

    @property
    def may_saturate(self) -> bool:
        return self.worst is None or self.channels > 0

    @property
    def why(self) -> str:
        """What may saturate, for people."""
        if self.worst is None:
            return "neither factor is known before it runs"
        return f"{self.channels} of {self.outputs} output channels, |w1| + |w2| up to {self.worst}"


def risks(model: ir.Model) -> list[Risk]:
    """Returns one risk per int8 product, the worst first."""
    unsorted = []
    for product in byte_products(model):
        if product.codes is None:
            unsorted.append(Risk(product.node, 0, 0, None))
            continue
        largest = saturation.pair_sums(product.codes).max(1)
        over = int((largest > saturation.LIMIT).sum())
        unsorted.append(Risk(product.node, over, len(largest), int(largest.max(initial=0))))
    return sorted(unsorted, key=lambda risk: (risk.worst is not None, -(risk.worst or 0)))
