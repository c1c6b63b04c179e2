"""A linter of QDQ ONNX graphs: what TensorRT refuses, what is slow there, and what CPUs may compute wrong.

`lint(path) -> Report` takes any QDQ ONNX file and needs onnx, onnx-ir and numpy. What is in this folder:

    load        file -> graph with shapes, or InputError
    quantizers  scale, zero point and axis of Q and DQ
    rules/      the rules Q00 to Q41, one small function each, found by themselves
    coverage, pairs, attention, residual, gelu      the facts beside the findings
    text        the lines to print

What the rules stand on is the graph's own: `graph.nodes` (one operator), `graph.view` (who reads and makes a value,
constants, walks past what commutes with Q/DQ) and `graph.blocks` (attention).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import BackendUnavailable, InputError, near_names
from pipeline.lint.findings import TARGETS, Finding, Place, Report, Saturation, Target

if TYPE_CHECKING:
    from pipeline.graph.saturation_risk import Risk
    from pipeline.graph.view import View

__all__ = ["ALL", "TARGETS", "Finding", "Place", "Report", "lint"]

ALL = "all"
PACKAGES = {"onnx": "onnx", "onnx_ir": "onnx-ir"}


def lint(path: Path | str, target: str = ALL) -> Report:
    """Returns what the rules find in an ONNX file, for "8.6", "10" (TensorRT 10 and 11), "cpu" or "all".

    Raises InputError for a file that is no ONNX model and for an unknown target, BackendUnavailable where onnx or
    onnx-ir is not installed.
    """
    targets = _targets(target)
    for package, name in PACKAGES.items():
        try:
            importlib.import_module(package)
        except ImportError as error:
            absent = error.name if isinstance(error, ModuleNotFoundError) and error.name != package else name
            message = f"lint needs the package {name}, which does not import ({error}); run `pip install {absent}`."
            raise BackendUnavailable(message) from error
    from pipeline.graph.view import View
    from pipeline.lint.load import read

    source = read(Path(path))
    view = View(source.model, bytes=source.bytes, external=source.external, inference=source.inference)
    return _report(str(path), view, targets)


def _targets(asked: str) -> tuple[Target, ...]:
    targets = tuple(name for name in TARGETS if asked in (name, ALL))
    if not targets:
        raise InputError(f"unknown target {asked!r}.{near_names(asked, [*TARGETS, ALL])}")
    return targets


def _report(file: str, view: View, targets: tuple[Target, ...]) -> Report:
    from pipeline.graph.blocks import mask_adds
    from pipeline.graph.nodes import DQ, Q
    from pipeline.graph.saturation_risk import risks
    from pipeline.lint import residual, rules
    from pipeline.lint.attention import attention
    from pipeline.lint.coverage import coverage
    from pipeline.lint.pairs import unfused

    products = risks(view.model) if "cpu" in targets else None  # it alone reads the weights
    return Report(
        file=file,
        targets=targets,
        opset=view.opset,
        operators=len(view.nodes),
        quantize=len(view.of(Q)),
        dequantize=len(view.of(DQ)),
        findings=rules.findings(view, targets),
        coverage=coverage(view),
        unfused=tuple(unfused(view)),
        attention=tuple(attention(view, targets)),
        residual=residual.counts(list(residual.residuals(view, mask_adds(view)))),
        saturation=None if products is None else _saturation(view, products),
    )


def _saturation(view: View, products: Sequence[Risk]) -> Saturation:
    return Saturation(len(products), tuple(view.label(r.node) for r in products if r.may_saturate))
