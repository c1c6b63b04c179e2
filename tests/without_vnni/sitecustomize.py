"""Hides AVX-512, VNNI and AMX from ONNX Runtime, as ONEDNN_MAX_CPU_ISA=AVX2 does from OpenVINO (`make … CPU=avx2`).

On PYTHONPATH, Python runs this file in every process that it starts. ONNX Runtime has no switch of its own; it asks the
CPUID instruction for leaf 7 when it chooses its kernels. Before its library is used, each such place in memory (the
file stays as it is) jumps to a few instructions that ask the same and clear the bits of what shall be hidden: Intel,
Software Developer's Manual, volume 2A, CPUID, "Structured Extended Feature Flags". Linux on x86-64.
"""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
import os
import re
import struct
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

LIBRARY = "capi/onnxruntime_pybind11_state*.so"
# mov eax, 7; perhaps mov ecx, 1 or xor ecx, ecx; cpuid
ASKS = re.compile(rb"\xb8\x07\x00\x00\x00(\xb9\x01\x00\x00\x00|\x31\xc9)?\x0f\xa2")
EBX = (16, 17, 21, 26, 27, 28, 30, 31)  # AVX512 F, DQ, IFMA, PF, ER, CD, BW, VL
ECX = (1, 6, 11, 12, 14)  # AVX512 VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ
EDX = (2, 3, 8, 22, 23, 24, 25)  # AVX512 4VNNIW, 4FMAPS, VP2INTERSECT; AMX-BF16, AVX512-FP16, AMX-TILE, AMX-INT8
EAX1 = (4, 5, 21)  # of subleaf 1: AVX-VNNI, AVX512-BF16, AMX-FP16
EDX1 = (4, 5, 8, 10, 19)  # of subleaf 1: AVX-VNNI-INT8, AVX-NE-CONVERT, AMX-COMPLEX, AVX-VNNI-INT16, AVX10


def keep(opcode: bytes, bits: tuple[int, ...]) -> bytes:
    """Returns the instruction `and register, mask` that clears these bits."""
    return opcode + struct.pack("<I", 0xFFFFFFFF & ~sum(1 << bit for bit in bits))


EAX_AND, EBX_AND, ECX_AND, EDX_AND = b"\x25", b"\x81\xe3", b"\x81\xe1", b"\x81\xe2"
FIRST = keep(EBX_AND, EBX) + keep(ECX_AND, ECX) + keep(EDX_AND, EDX)
SECOND = keep(EAX_AND, EAX1) + keep(EDX_AND, EDX1)


def hide(library: Path) -> int:
    """Changes a library's code in this process's memory. Returns in how many places. Raises OSError, RuntimeError."""
    ctypes.CDLL(str(library))  # the import that follows finds it loaded, and what it asks changed
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    page, every, run = mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC, mmap.PROT_READ | mmap.PROT_EXEC
    found = 0
    for begin, end in executable(library):
        # a jump reaches 2 GiB: the free page nearest to the code, which the kernel takes as a wish
        room = libc.mmap(begin - (1 << 28), page, every, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        if room is None or abs(room - begin) > 1 << 30:
            raise RuntimeError(f"no memory near {library.name}")
        at = room
        for match in ASKS.finditer(ctypes.string_at(begin, end - begin)):
            place = begin + match.start()
            code = match[0] + (SECOND if match[1] and match[1][0] == 0xB9 else FIRST)
            code += jump(at + len(code), place + len(match[0]))
            write(at, code)
            first = place // page * page
            pages = (place + 5 - 1) // page * page + page - first
            if libc.mprotect(first, pages, every):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            write(place, jump(place, at))
            libc.mprotect(first, pages, run)
            at += len(code)
            found += 1
    if not found:
        raise RuntimeError(f"{library.name} asks the processor in another way than it did: it would use what it has")
    return found


def executable(library: Path) -> list[tuple[int, int]]:
    """Returns where a library's code lies in this process's memory."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    parts = [line.split(maxsplit=5) for line in lines if line.endswith(str(library.resolve()))]
    return [(int(a, 16), int(b, 16)) for span, rights, *_ in parts if "x" in rights for a, b in [span.split("-")]]


def jump(place: int, target: int) -> bytes:
    return b"\xe9" + struct.pack("<i", target - place - 5)


def write(place: int, code: bytes) -> None:
    ctypes.memmove(place, code, len(code))


class BeforeOnnxruntime:
    """A finder that finds nothing: it is asked before ONNX Runtime is imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "onnxruntime" and importlib.util is not None:
            sys.meta_path.remove(self)  # type: ignore[arg-type]
            spec = PathFinder.find_spec(name)
            if spec is not None and spec.origin:
                for library in Path(spec.origin).parent.glob(LIBRARY):
                    hide(library)


if "AVX2" in os.environ.get("ONEDNN_MAX_CPU_ISA", ""):
    sys.meta_path.insert(0, BeforeOnnxruntime())  # type: ignore[arg-type]
