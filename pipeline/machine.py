"""What this machine is: processor, instruction sets that matter to int8, cores, GPU."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

# In the order of worth for int8: tiles, fused multiply-add of bytes (512 and 256 bits wide), plain vectors.
FLAGS = ("amx_int8", "avx512_vnni", "avx_vnni", "avx512f", "avx2", "asimddp")
_CPUINFO = Path("/proc/cpuinfo")


@lru_cache(maxsize=1)
def _cpuinfo() -> dict[str, str]:
    """Returns the first processor's fields of /proc/cpuinfo, empty where there is no such file."""
    try:
        block = _CPUINFO.read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in block.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def cpu_name() -> str:
    """Returns the processor's model name."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def cpu_flags() -> list[str]:
    """Returns those of FLAGS that the processor has."""
    info = _cpuinfo()
    present = set(info.get("flags", info.get("Features", "")).split())
    return [flag for flag in FLAGS if flag in present]


def usable_cores() -> int:
    """Returns the physical cores that this process may use: at most the CPUs of its affinity mask."""
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


@lru_cache(maxsize=1)
def gpu_name() -> str | None:
    """Returns the first NVIDIA GPU's name, None without one."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        answer = subprocess.run(  # noqa: S603 -- a fixed command line, its path found by `which`
            [tool, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(answer.stdout.splitlines()), "").strip() or None


def saturation_caution(flags: list[str]) -> str | None:
    """Returns why int8 sums can go wrong on this processor, None where they cannot.

    Without VNNI, x86 multiplies bytes with `vpmaddubsw`, which adds two products u8·s8 in 16 bits and
    saturates, as 2 · 255 · 127 > 2¹⁵ − 1 (Intel 64 and IA-32 Software Developer's Manual, PMADDUBSW).
    """
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    if not x86 or {"amx_int8", "avx512_vnni", "avx_vnni"} & set(flags):
        return None
    return (
        "no VNNI: pairs of 8-bit products are added in 16 bits and may saturate, so accuracy can differ from "
        "other machines; verify on this one"
    )


def environment(threads: int, versions: dict[str, str]) -> dict[str, Any]:
    """Returns the `environment` of report.json."""
    from datetime import datetime, timezone

    return {
        "cpu": cpu_name(),
        "cpu_flags": cpu_flags(),
        "gpu": gpu_name(),
        "threads": threads,
        "os": platform.platform(),
        "versions": {"python": platform.python_version(), **versions},
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
