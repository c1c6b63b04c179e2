"""The file as a whole: what could not be looked at, what stays float, how the weights are stored."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.graph.nodes import PRODUCTS, given, op, word
from pipeline.graph.view import View
from pipeline.lint.coverage import coverage
from pipeline.lint.rules import Hit, rule

LARGEST_FILE = 2**31 - 1  # bytes of one protobuf message


@rule(
    "Q00",
    "I",
    "Shapes are unknown here, so rules that need them said nothing.",
    "Infer shapes when exporting, or repair what shape inference stumbles over.",
)
def unknown_shapes(view: View) -> Iterator[Hit]:
    """Not in the reference: a linter has to say what it did not look at."""
    if view.inference is not None:
        yield Hit(None, view.inference)
    for node in view.of(*PRODUCTS):
        if any(view.dims(value) is None for value in view.operands(node)):
            yield Hit(node, op(node))


@rule(
    "Q39",
    "I",
    "Part of the multiply-accumulates stays in float.",
    "Quantize the largest of these first; what is meant to stay float (see Q21, Q29, Q30, Q36) is fine.",
)
def float_products(view: View) -> Iterator[Hit]:
    """The products that stay float, the largest first; the share in int8 is in the report's own section."""
    found = coverage(view)
    total = found.int8_macs + found.float_macs
    nodes = {view.label(node): node for node in view.of(*PRODUCTS)}
    for name, macs in found.float_nodes:
        if macs:
            yield Hit(nodes[name], f"{macs / total:.1%}")


@rule(
    "Q40",
    "I",
    "Weights are in other files, the model is above 2 GiB, or a Resize keeps DQ from its product.",
    "Keep data files beside the model and parse it by its path; quantize behind a Resize that is not nearest.",
)
def worth_knowing(view: View) -> Iterator[Hit]:
    if view.external:
        listed = ", ".join(view.external[:3]) + (", …" if len(view.external) > 3 else "")
        yield Hit(None, f"weights in {len(view.external)} other files: {listed}")
    if view.bytes > LARGEST_FILE:
        yield Hit(None, f"{view.bytes / 2**30:.1f} GiB with its weights: more than one protobuf message holds")
    for node in view.of(*PRODUCTS):
        for value in view.operands(node):
            resize = view.back(value).node
            if resize is not None and op(resize) == "Resize" and view.dequantizers(given(resize, 0)):
                yield Hit(resize, f"{word(resize, 'mode', 'nearest')}, before {view.label(node)}")
