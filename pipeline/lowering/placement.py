"""Which quantizers are on: the backend's default by kind of operator, then the recipe's patterns.

A family's default on a backend is what `place` measured on a class of processors, stored in
backends/placements/<backend>.json:

    {"<family>": {"<class>": {"kinds": ["linear", …], "measured": {"command": …, "date": …, "cpu": …, …}}, …}, …}

A class without an entry takes that of the nearest class below it, and a family without any the backend's own PLACEMENT.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import backends, families
from pipeline.backends._policy import KINDS, Policy
from pipeline.errors import InputError, near_names
from pipeline.files import write_atomic
from pipeline.measure import machine, processor

if TYPE_CHECKING:
    from pipeline.recipe import Placement

FOLDER = Path(__file__).parents[1] / "backends" / "placements"


@dataclass(frozen=True)
class Default:
    """The placement that a run starts from. measured_on: the class of processors, None for the backend's own."""

    policy: Policy
    measured_on: str | None
    note: str | None  # what to tell where it was measured on another class than this one


def default(backend: str, family: str, processor_class: str | None = None) -> Default:
    """Returns the placement stored for a family on a backend and class, the backend's own where none is stored.

    processor_class: None for this machine's. Raises InputError for a file that cannot be used.
    """
    entries = stored(backend).get(family, {})
    here = processor_class or machine.processor_class()
    for name in processor.stand_ins(here):
        if name in entries:
            note = f"{family} on {backend} was not measured on {here} processors; taken from {name}"
            return Default(Policy(frozenset(entries[name]["kinds"])), name, None if name == here else note)
    measured = ", ".join(entries)
    note = f"{family} on {backend} was measured on {measured} alone, not on {here}; the backend's own is taken"
    return Default(backends.get(backend).PLACEMENT, None, note if entries else None)


def file_of(backend: str) -> Path:
    """Returns where a backend's stored placements are."""
    return FOLDER / f"{backend}.json"


def stored(backend: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns the checked content of a backend's file, {family: {class: {kinds, measured}}}; nothing without a file.

    Raises InputError naming everything in it that cannot be used.
    """
    path = file_of(backend)
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); `place` writes it.") from error
    faults = _faults(content)
    if faults:
        listed = "\n".join(f"  {fault}" for fault in faults)
        raise InputError(f"the stored placements in {path} cannot be used:\n{listed}")
    return content  # type: ignore[no-any-return]


def store(backend: str, family: str, processor_class: str, policy: Policy, measured: Mapping[str, Any]) -> Path:
    """Returns the backend's file, which now holds `policy` as the family's default on a class; others keep theirs.

    Raises InputError for a file that cannot be written.
    """
    path = file_of(backend)
    entries = stored(backend)
    made = {"kinds": in_order(policy.kinds), "measured": dict(measured)}
    entries[family] = dict(sorted({**entries.get(family, {}), processor_class: made}.items()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, (json.dumps(dict(sorted(entries.items())), indent=1) + "\n").encode())
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{path} cannot be written ({reason}): the placement is not stored. Use a checkout or an environment that "
            "you may write to, or give --no-store."
        ) from error
    return path


def in_order(kinds: Iterable[str]) -> list[str]:
    """Returns kinds in the order of KINDS."""
    return sorted(kinds, key=KINDS.index)


def _faults(content: Any) -> list[str]:
    """Returns one sentence for everything that is wrong with a file's content."""
    if not isinstance(content, dict):
        return [f"an object of families is expected, found {type(content).__name__}."]
    found = []
    for family, classes in content.items():
        if family not in families.names():
            found.append(f"unknown model {family!r}.{near_names(family, families.names())}")
        elif not isinstance(classes, dict):
            found.append(f"{family}: an object of processor classes is expected, found {_outline(classes)}.")
        else:
            for name, entry in classes.items():
                found += _entry_faults(family, name, entry)
    return found


def _entry_faults(family: str, name: str, entry: Any) -> list[str]:
    """Returns one sentence for everything that is wrong with the entry of one class."""
    where = f"{family}, {name}"
    if name not in processor.CLASSES:
        return [f"{family}: unknown processor class {name!r}.{near_names(name, processor.CLASSES)}"]
    if not isinstance(entry, dict) or set(entry) != {"kinds", "measured"}:
        return [f"{where}: an object with 'kinds' and 'measured' is expected, found {_outline(entry)}."]
    if not isinstance(entry["kinds"], list) or not entry["kinds"]:
        return [f"{where}: 'kinds' must be a list of at least one of {', '.join(KINDS)}."]
    unknown = [kind for kind in entry["kinds"] if kind not in KINDS]
    return [f"{where}: unknown kind {kind!r}.{near_names(str(kind), KINDS)}" for kind in unknown]


def _outline(entry: Any) -> str:
    return f"an object with {', '.join(map(repr, entry)) or 'nothing'}" if isinstance(entry, dict) else repr(entry)


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


def without(decisions: Sequence[Decision], dropped: Mapping[str, str]) -> list[Decision]:
    """Returns the decisions after a dialect that dropped some quantizers, {name: why}, of those that were on."""
    return [
        Decision(d.name, d.kind, False, dropped[d.name]) if d.enabled and d.name in dropped else d for d in decisions
    ]


def _check(names: Sequence[str], patterns: Sequence[str]) -> None:
    unknown = [p for p in patterns if not any(fnmatchcase(name, p) for name in names)]
    if unknown:
        raise InputError("\n".join(f"the pattern {p!r} matches no quantizer.{near_names(p, names)}" for p in unknown))
