"""Sums of int8 products on CPUs that add them in 16 bits."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.graph.saturation_risk import risks
from pipeline.graph.view import View
from pipeline.lint.rules import Hit, rule


@rule(
    "Q41",
    {"cpu": "W"},
    "Sums of this product may saturate on x86 processors without VNNI.",
    "Bound neighbouring weights to |w1| + |w2| <= 128 and keep products of two activations float: our own graphs are, "
    "with --set lowering.any_cpu=true.",
)
def sums_fit_16_bits(view: View) -> Iterator[Hit]:
    """The worst first."""
    yield from (Hit(risk.node, risk.why) for risk in risks(view.model) if risk.may_saturate)
