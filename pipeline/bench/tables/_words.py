"""How every kind of table writes a figure, a machine, a version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.measure import machine

NONE = "–"
MEBI = 2**20


def source(document: Mapping[str, Any]) -> str:
    """Returns the command that made a result, and its day."""
    return f"`{document['command']}`, {document['environment']['date'][:10]}"


def machine_of(about: Mapping[str, Any]) -> str:
    """Returns the processor, its class and the threads of an `environment`; early ones have no class, only flags."""
    name = about.get("processor") or machine.class_of(about["cpu_flags"])
    return f"{about['cpu']} ({name}), {about['threads']} threads"


def versions(about: Mapping[str, Any], *packages: str) -> str:
    """Returns "package version, …" of an `environment`, without the build that OpenVINO adds to its number."""
    return ", ".join(f"{package.removeprefix('nvidia-')} {_number(about, package)}" for package in packages)


def _number(about: Mapping[str, Any], package: str) -> str:
    return str(about["versions"][package]).split("-")[0]


def by(shape: Any) -> str:
    """Returns a shape: 1×3×512×512."""
    return "×".join(map(str, shape))


def interval(ratio: Mapping[str, float], digits: int = 2) -> str:
    """Returns the low and the high end."""
    return f"{ratio['low']:.{digits}f}–{ratio['high']:.{digits}f}"


def ratio_with_interval(ratio: Mapping[str, float], digits: int = 2) -> str:
    """Returns a ratio with its interval: 4.20 (4.11–4.26)."""
    return f"{ratio['median']:.{digits}f} ({interval(ratio, digits)})"


def three_digits(value: float) -> str:
    """Returns a number with three digits that mean something: 3.21, 32.1, 321, 3210."""
    digits = 2 if round(value, 2) < 10 else 1 if round(value, 1) < 100 else 0
    return f"{value:.{digits}f}"
