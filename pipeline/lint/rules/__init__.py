"""The rules: small functions, each registered with its id, found in the files of this folder.

    @rule("Q05", "E", "a scale is not a positive finite number", "Calibrate again: …")
    def positive(view: View) -> Iterator[Hit]: ...

The severity is one letter for every TensorRT, or {target: letter} for those targets that the rule concerns. A hit may
carry another one, and may concern fewer targets.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from pipeline.graph.view import View
from pipeline.lint.findings import SEVERITIES, TARGETS, TENSORRT, Finding, Place, Severity, Target


@dataclass(frozen=True)
class Hit:
    """One place where a rule is broken; None: the whole graph."""

    node: ir.Node | None
    detail: str = ""
    severity: Severity | None = None  # None: the rule's own
    targets: tuple[Target, ...] = tuple(TARGETS)


Check = Callable[[View], Iterable[Hit]]


@dataclass(frozen=True)
class Rule:
    """A check with its id and its two sentences."""

    id: str
    severity: Mapping[Target, Severity]
    problem: str
    fix: str
    check: Check


RULES: dict[str, Rule] = {}


def rule(id: str, severity: Severity | Mapping[Target, Severity], problem: str, fix: str) -> Callable[[Check], Check]:
    """Registers a check."""

    def register(check: Check) -> Check:
        if id in RULES:
            raise ValueError(f"rule {id} exists twice: {RULES[id].check.__name__} and {check.__name__}")
        by_target = dict(severity) if isinstance(severity, Mapping) else dict.fromkeys(TENSORRT, severity)
        RULES[id] = Rule(id, by_target, problem, fix, check)
        return check

    return register


def every_rule() -> list[Rule]:
    """Returns the rules of all files in this folder, by id."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return [RULES[id] for id in sorted(RULES)]


def findings(view: View, targets: Sequence[Target]) -> tuple[Finding, ...]:
    """Returns what all rules find for some targets, the worst first."""
    found = [finding for entry in every_rule() for finding in _apply(entry, view, targets)]
    order = list(SEVERITIES)
    return tuple(sorted(found, key=lambda finding: (order.index(finding.severity), finding.rule)))


def _apply(entry: Rule, view: View, targets: Sequence[Target]) -> list[Finding]:
    """Groups the hits of a rule: one finding for each severity and set of targets."""
    groups: dict[tuple[Severity, tuple[Target, ...]], list[Place]] = {}
    if not set(targets) & set(entry.severity):
        return []
    for hit in entry.check(view):
        place = Place(None if hit.node is None else view.label(hit.node), hit.detail)
        concerned: dict[Severity, list[Target]] = {}
        for target in targets:
            if target in entry.severity and target in hit.targets:
                concerned.setdefault(hit.severity or entry.severity[target], []).append(target)
        for severity, group in concerned.items():
            groups.setdefault((severity, tuple(group)), []).append(place)
    return [
        Finding(entry.id, severity, group, entry.problem, entry.fix, tuple(dict.fromkeys(places)))
        for (severity, group), places in groups.items()
    ]
