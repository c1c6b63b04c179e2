"""Classes of processors: how each sums products of bytes, and whose measurements stand in for whose.

    amx      tiles of bytes, sums in 32 bits                     x86
    vnni     fused multiply-add of bytes, sums in 32 bits        x86 (AVX-VNNI or AVX512-VNNI)
    avx512   pairs of products added in 16 bits, saturated       x86 without VNNI
    avx2     the same
    x86      the same, or no int8 kernels at all                 older, or of unknown instruction sets
    arm      sums in 32 bits (SDOT, SMMLA, or widening adds)     aarch64
    other    unknown: treated as one that saturates

An engine, its placement and the choice of a backend belong to the class they were measured on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.errors import ArtifactError
from pipeline.measure import machine

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.recipe import Recipe

log = logging.getLogger(__name__)

CLASSES = (*machine.X86, "arm", "other")
EVERY = "every processor"
SATURATING = frozenset({"avx512", "avx2", "x86", "other"})


def saturates(name: str) -> bool:
    """Returns whether a class adds pairs of int8 products in saturating 16 bits (see `pipeline.graph.saturation`)."""
    return name in SATURATING


def stand_ins(name: str) -> tuple[str, ...]:
    """Returns the classes whose measurements count for one, itself first, then those below it.

    Only those that sum as it does: without VNNI int8 layers may be slower than float, and float is then measured as the
    faster placement, which says nothing of a processor with it.
    """
    below = machine.X86[machine.X86.index(name) :] if name in machine.X86 else (name,)
    return tuple(other for other in below if saturates(other) == saturates(name))


def bounded(recipe: Recipe) -> bool:
    """Returns whether a CPU's graph must be free of saturation: this machine needs it, or the recipe asks for it."""
    asked = recipe.lowering.any_cpu
    return saturates(machine.processor_class()) if asked is None else asked


def right_on(saturation: Mapping[str, Any] | None, name: str) -> bool:
    """Returns whether an int8 graph is right on a class.

    saturation: the section of placement.json, {products, may_saturate, worst}; without it a graph is not right where
    sums saturate.
    """
    return not saturates(name) or (saturation is not None and saturation["may_saturate"] == 0)


def risk(saturation: Mapping[str, Any] | None) -> str:
    """Returns in words how much of a graph may saturate."""
    if saturation is None:
        return "any number of the int8 products"
    return f"{saturation['may_saturate']} of {saturation['products']} int8 products"


def admit(record: Mapping[str, Any], workspace: Workspace) -> None:
    """Raises ArtifactError for an engine whose int8 sums may saturate here; warns about one made on another class.

    record: engine.json of the workspace.
    """
    here, built_on = machine.processor_class(), record["processor"]
    if built_on == here:
        return
    folder, file = workspace.folder, f"{record['backend']}/engine.json"
    again = f"{workspace.again('--from', 'lower', file=file)} here, which makes it again from the files in the folder"
    if record["precision"] == "int8" and not right_on(record["saturation"], here):
        raise ArtifactError(
            f"the {record['backend']} engine in {folder} was made for a processor of class {built_on}: "
            f"{risk(record['saturation'])} may saturate on this one ({here}) and give wrong numbers; {again}. Made "
            "with --set lowering.any_cpu=true it is right on every processor."
        )
    log.warning(
        "the %s engine in %s was chosen and timed on a processor of class %s, this one is %s: it is right here, "
        "another may be faster; %s.", record["backend"], folder, built_on, here, again,
    )  # fmt: skip


def kind(saturation: Mapping[str, Any] | None) -> str:
    """Returns in words which processors an int8 artifact is right on."""
    right = [name for name in CLASSES if right_on(saturation, name)]
    return EVERY if len(right) == len(CLASSES) else "processors of class " + ", ".join(right)


def caution(name: str) -> str | None:
    """Returns what a user of int8 must know about a class, None for nothing."""
    if not saturates(name):
        return None
    return (
        "no VNNI: pairs of 8-bit products are added in 16 bits and may saturate; graphs made here are free of that, "
        "others are refused where they are not"
    )
