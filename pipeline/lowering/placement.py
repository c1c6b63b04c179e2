"""Which quantizers are on: the backend's default by kind of operator, then the recipe's patterns.

A family's default on a backend is what `place` measured on a class of processors (`pipeline.lowering.stored`). A class
without an entry takes that of the nearest class below it that sums alike; a family without entries, the
backend's own PLACEMENT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import backends
from pipeline.backends._policy import KINDS, Policy
from pipeline.errors import InputError, near_names
from pipeline.lowering import stored
from pipeline.measure import machine, processor

if TYPE_CHECKING:
    from pipeline.recipe import Placement


@dataclass(frozen=True)
class Default:
    """The placement that a run starts from."""

    policy: Policy
    measured_on: str | None = None  # the class of processors, None for the backend's own
    file: Path | None = None  # where it is stored, None for the backend's own
    note: str | None = None  # for the user, if it was measured on another class than this one

    @property
    def origin(self) -> str:
        """Whose it is: "user", "project" or "backend"."""
        if self.file is None:
            return "backend"
        return "project" if self.file.parent == stored.PROJECT else "user"

    def __str__(self) -> str:
        """Its description in messages."""
        if self.origin == "user":
            return f"yours, measured on {self.measured_on}, in {self.file}"
        return f"the project's, measured on {self.measured_on}" if self.measured_on else "the backend's own"


def default(backend: str, family: str, processor_class: str | None = None) -> Default:
    """Returns the placement stored for a family on a backend and class, the backend's own if none is stored.

    processor_class: None for this machine's. Raises InputError for a file that cannot be used.
    """
    entries = stored.entries(backend, family)
    here = processor_class or machine.processor_class()
    for name in processor.stand_ins(here):
        if name in entries:
            note = f"{family} on {backend} was not measured on {here} processors; taken from {name}"
            return Default(entries[name].policy, name, entries[name].file, None if name == here else note)
    measured = ", ".join(entries)
    note = f"{family} on {backend} was measured on {measured} alone, not on {here}; the backend's own is taken"
    return Default(backends.get(backend).PLACEMENT, note=note if entries else None)


def by_default(backend: str, family: str) -> dict[str, str]:
    """Returns the default placement, an entry per kind: `status` then names the one that changed."""
    kinds = default(backend, family).policy.kinds
    return {f"{kind} by default": "on" if kind in kinds else "off" for kind in KINDS}


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

    quantizers: records of quantizers.json; degenerate: {name: why it has no amax}. An operator one of whose operands
    cannot be quantized stays float as a whole: a half-quantized product costs time and saves none. Raises InputError
    for a pattern that matches nothing.
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


def without(decisions: Sequence[Decision], dropped: Mapping[str, str]) -> list[Decision]:
    """Returns the decisions after a dialect dropped some quantizers, {name: why}."""
    return [
        Decision(d.name, d.kind, False, dropped[d.name]) if d.enabled and d.name in dropped else d for d in decisions
    ]


def _check(names: Sequence[str], patterns: Sequence[str]) -> None:
    unknown = [p for p in patterns if not any(fnmatchcase(name, p) for name in names)]
    if unknown:
        raise InputError("\n".join(f"the pattern {p!r} matches no quantizer.{near_names(p, names)}" for p in unknown))
