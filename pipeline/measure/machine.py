"""What this machine is: processor, instruction sets that matter to int8, cores, GPU."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.measure import gpu

# The most useful to int8 first: tiles, fused multiply-add of bytes (512 and 256 bits wide), plain vectors.
FLAGS = ("amx_int8", "avx512_vnni", "avx_vnni", "avx512bw", "avx512f", "avx2", "i8mm", "asimddp")
_CPUINFO = Path("/proc/cpuinfo")

X86 = ("amx", "vnni", "avx512", "avx2", "x86")  # each can run what the later ones can
_NEEDS = {"amx": {"amx_int8"}, "vnni": {"avx512_vnni", "avx_vnni"}, "avx512": {"avx512bw"}, "avx2": {"avx2"}}  # any of
# oneDNN, and so OpenVINO, behaves as a lesser processor under this variable; ONNX Runtime does where `make … CPU=avx2`
# puts tests/without_vnni/ in front. Values are oneDNN's, such as AVX512_CORE_VNNI; the first part that one contains
# decides.
CAP = "ONEDNN_MAX_CPU_ISA"
_CAPS = {
    "AMX": "amx", "VNNI": "vnni", "BF16": "vnni", "FP16": "vnni", "AVX10": "vnni", "AVX512": "avx512", "AVX2": "avx2",
    "AVX": "x86", "SSE41": "x86",
}  # fmt: skip


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
    """Returns the processor's model name, and where ONEDNN_MAX_CPU_ISA lowers its class, that it does."""
    name = _cpuinfo().get("model name") or platform.processor() or platform.machine()
    actual, allowed = class_of(cpu_flags()), processor_class()
    return f"{name} limited from {actual}" if allowed in X86 and allowed != actual else name


def cpu_flags() -> list[str]:
    """Returns those of FLAGS that the processor has."""
    info = _cpuinfo()
    present = set(info.get("flags", info.get("Features", "")).split())
    return [flag for flag in FLAGS if flag in present]


def processor_class() -> str:
    """Returns what int8 arithmetic this processor has: one of X86, "arm" or "other" (see `pipeline.measure.processor`).

    ONEDNN_MAX_CPU_ISA lowers it, so that a lesser class can be tried on any machine. Unknown flags count as none.
    """
    architecture = platform.machine().lower()
    if architecture in ("aarch64", "arm64"):
        return "arm"
    if architecture not in ("x86_64", "amd64"):
        return "other"
    cap = os.environ.get(CAP, "").upper()
    actual = class_of(cpu_flags())
    allowed = next((name for part, name in _CAPS.items() if part in cap), X86[0])
    return max(actual, allowed, key=X86.index)


def class_of(flags: Iterable[str]) -> str:
    """Returns the class of an x86 processor with these of FLAGS."""
    present = set(flags)
    return next((name for name in X86 if present & _NEEDS.get(name, set())), X86[-1])


def usable_cores() -> int:
    """Returns the physical cores that this process may use: at most the CPUs of its affinity mask."""
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def environment(threads: int, versions: dict[str, str]) -> dict[str, Any]:
    """Returns the `environment` of report.json."""
    from datetime import datetime, timezone

    return {
        "cpu": cpu_name(),
        "processor": processor_class(),
        "cpu_flags": cpu_flags(),
        "gpu": gpu.query()["name"],
        "threads": threads,
        "os": platform.platform(),
        "versions": {"python": platform.python_version(), **versions},
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
