"""Which quantizers are on: the backend's default by kind of operator, then the recipe's patterns.

A family's default on a backend is what `place` measured, stored in backends/placements/<backend>.json:

    {"<family>": {"kinds": ["linear", …], "measured": {"command": …, "date": …, "cpu": …, …}}, …}

A family without an entry takes the backend's own PLACEMENT.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pipeline import backends, families
from pipeline.artifacts import write_atomic
from pipeline.errors import InputError, near_names
from pipeline.recipe import Placement

FOLDER = Path(__file__).parent / "backends" / "placements"

KINDS = (
    "linear", "conv", "pointwise", "depthwise", "embedding", "scores", "context", "local", "residual", "sum", "head",
)  # fmt: skip


@dataclass(frozen=True)
class Policy:
    """A default: the kinds of operator that are fast in int8 on a backend.

    "head" is the layer that makes the final scores: a small share of the time, and its error is the answer's.
    """

    kinds: frozenset[str]


def default(backend: str, family: str) -> Policy:
    """Returns the placement stored for a family on a backend, the backend's own where none is stored.

    Raises InputError for a file that cannot be used.
    """
    entry = stored(backend).get(family)
    return Policy(frozenset(entry["kinds"])) if entry else backends.get(backend).PLACEMENT


def file_of(backend: str) -> Path:
    """Returns where a backend's stored placements are."""
    return FOLDER / f"{backend}.json"


def stored(backend: str) -> dict[str, dict[str, Any]]:
    """Returns the checked content of a backend's file, {family: {kinds, measured}}; nothing where there is no file.

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


def store(backend: str, family: str, policy: Policy, measured: Mapping[str, Any]) -> Path:
    """Returns the backend's file, which now holds `policy` as the family's default; other families keep theirs.

    Raises InputError for a file that cannot be written.
    """
    path = file_of(backend)
    entries = {**stored(backend), family: {"kinds": in_order(policy.kinds), "measured": dict(measured)}}
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
    for family, entry in content.items():
        if family not in families.names():
            found.append(f"unknown model {family!r}.{near_names(family, families.names())}")
        elif not isinstance(entry, dict) or set(entry) != {"kinds", "measured"}:
            found.append(f"{family}: an object with 'kinds' and 'measured' is expected, found {_outline(entry)}.")
        elif not isinstance(entry["kinds"], list) or not entry["kinds"]:
            found.append(f"{family}: 'kinds' must be a list of at least one of {', '.join(KINDS)}.")
        else:
            unknown = [kind for kind in entry["kinds"] if kind not in KINDS]
            found += [f"{family}: unknown kind {kind!r}.{near_names(str(kind), KINDS)}" for kind in unknown]
    return found


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
