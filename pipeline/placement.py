"""Which quantizers are on: the backend's choice by kind of operator, then the recipe's patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pipeline.errors import InputError, near_names
from pipeline.recipe import Placement

KINDS = ("linear", "conv", "depthwise", "scores", "context", "local", "residual", "head")


@dataclass(frozen=True)
class Policy:
    """A backend's default: the kinds of operator that are fast in int8 there.

    "head" is the layer that makes the final scores: a small share of the time, and its error is the answer's.
    """

    kinds: frozenset[str]


@dataclass(frozen=True)
class Decision:
    """One quantizer: on or off, and why."""

    name: str
    kind: str
    enabled: bool
    reason: str


def decide(
    quantizers: Sequence[Mapping[str, Any]],
    policy: Policy,
    choice: Placement,
    degenerate: Mapping[str, str],
) -> list[Decision]:
    """Returns one decision per quantizer.

    quantizers: records of quantizers.json; degenerate: {name: why it has no amax}. An operator with one operand that
    cannot be quantized stays float as a whole: half a quantized product costs time and gains none. Raises
    InputError for a pattern that matches nothing.
    """
    names = [str(q["name"]) for q in quantizers]
    _check(names, (*choice.enable, *choice.disable))
    decisions = [_decide(q, policy, choice) for q in quantizers]
    dead = {str(q["site"]): degenerate[q["name"]] for q in quantizers if q["name"] in degenerate}
    return [
        Decision(d.name, d.kind, False, f"stays float: {dead[str(q['site'])]}")
        if d.enabled and str(q["site"]) in dead
        else d
        for q, d in zip(quantizers, decisions, strict=True)
    ]


def _decide(quantizer: Mapping[str, Any], policy: Policy, choice: Placement) -> Decision:
    name, kind = str(quantizer["name"]), str(quantizer["kind"])
    enabled, reason = kind in policy.kinds, f"{kind}: {'on' if kind in policy.kinds else 'off'} for this backend"
    if kind in ("local", "residual") and choice.residual is not None:
        enabled = choice.residual == "both" or (choice.residual == "residual" and kind == "residual")
        reason = f"placement.residual = {choice.residual}"
    for patterns, value in ((choice.enable, True), (choice.disable, False)):
        for pattern in patterns:
            if fnmatchcase(name, pattern):
                enabled, reason = value, f"placement.{'enable' if value else 'disable'}: {pattern}"
    return Decision(name, kind, enabled, reason)


def _check(names: Sequence[str], patterns: Sequence[str]) -> None:
    unknown = [p for p in patterns if not any(fnmatchcase(name, p) for name in names)]
    if unknown:
        raise InputError("\n".join(f"the pattern {p!r} matches no quantizer.{near_names(p, names)}" for p in unknown))
