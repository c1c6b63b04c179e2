"""What works on this machine: backends, the one thing to install for each, the processor's int8, placements."""

from __future__ import annotations

from typing import Any

from pipeline import backends, families
from pipeline.lowering import placement
from pipeline.measure import gpu, machine
from pipeline.measure.processor import caution


def rows() -> list[dict[str, Any]]:
    """Returns {backend, available, version, reason} per backend; `reason` ends with what to install."""
    found = []
    for name in backends.names():
        backend = backends.get(name)
        reason = backend.unavailable_reason()
        version = ", ".join(f"{k} {v}" for k, v in backend.version().items()) if reason is None else ""
        found.append({"backend": name, "available": reason is None, "version": version, "reason": reason or ""})
    return found


def processor() -> dict[str, Any]:
    """Returns the facts about the machine that decide int8 speed and accuracy."""
    name = machine.processor_class()
    facts: dict[str, Any] = {
        "cpu": machine.cpu_name(),
        "processor class": name,
        "physical cores": machine.usable_cores(),
        "int8 instructions": ", ".join(machine.cpu_flags()) or "none known",
        "gpu": gpu.query()["name"] or "none",
    }
    warning = caution(name)
    return facts if warning is None else {**facts, "caution": warning}


def placements() -> list[dict[str, Any]]:
    """Returns {family, backend, default_of, measured_on, said} of every default placement on this processor."""
    pairs = [(family, backend) for family in families.names() for backend in backends.names()]
    found = [(family, backend, placement.default(backend, family)) for family, backend in pairs]
    return [
        {"family": f, "backend": b, "default_of": d.origin, "measured_on": d.measured_on, "said": str(d)}
        for f, b, d in found
    ]


def examine() -> dict[str, Any]:
    """Returns {machine, backends, placements}."""
    return {"machine": processor(), "backends": rows(), "placements": placements()}
