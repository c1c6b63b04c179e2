"""The GPU: which one it is, asked of NVIDIA's driver through ctypes; memory and streams on it are Polygraphy's.

Every argument of the driver is a ctypes object: a plain int would be passed with 32 bits.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pipeline.backends._tensorrt.api import quieten
from pipeline.errors import BackendUnavailable

LIBRARY = "libcuda.so.1"
CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
NAME_LENGTH = 256


@dataclass(frozen=True)
class Device:
    """The GPU that engines run on: the first visible one. compute_capability: as NVIDIA writes it, "8.6"."""

    name: str
    compute_capability: str


@lru_cache(maxsize=1)
def library() -> Any | None:
    """Returns the driver's library, None where there is no driver or no GPU."""
    try:
        found = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    return found if found.cuInit(ctypes.c_uint(0)) == 0 else None


def device() -> Device | None:
    """Returns the first visible GPU, None without one."""
    driver, ordinal = library(), ctypes.c_int()
    if driver is None or driver.cuDeviceGet(ctypes.byref(ordinal), ctypes.c_int(0)) != 0:
        return None
    name, numbers = ctypes.create_string_buffer(NAME_LENGTH), [ctypes.c_int() for _ in CAPABILITY]
    statuses = [driver.cuDeviceGetName(name, ctypes.c_int(NAME_LENGTH), ordinal)]
    for number, attribute in zip(numbers, CAPABILITY, strict=True):
        statuses.append(driver.cuDeviceGetAttribute(ctypes.byref(number), ctypes.c_int(attribute), ordinal))
    if any(statuses):
        raise BackendUnavailable(f"the driver does not name its GPU (CUDA error {max(statuses)}): see nvidia-smi.")
    return Device(name.value.decode(), ".".join(str(number.value) for number in numbers))


def missing_runtime() -> str | None:
    """Returns why Polygraphy finds no CUDA runtime library with the command that installs it, None where it does.

    TensorRT 8.6 links the runtime into itself, and its wheel brings none.
    """
    from polygraphy import cuda
    from polygraphy.exception import PolygraphyException

    quieten()
    try:
        cuda.wrapper()
    except (OSError, PolygraphyException) as error:
        return f"the CUDA runtime library is not found ({error}): pip install nvidia-cuda-runtime-cu12"
    return None


@contextmanager
def faults(what: str) -> Iterator[None]:
    """Turns a fault of CUDA into BackendUnavailable with CUDA's own words."""
    from polygraphy import cuda
    from polygraphy.exception import PolygraphyException

    try:
        yield
    except PolygraphyException as error:
        cudart = cuda.wrapper().handle
        cudart.cudaGetErrorString.restype = ctypes.c_char_p
        said = cudart.cudaGetErrorString(ctypes.c_int(cudart.cudaGetLastError())).decode()
        raise BackendUnavailable(
            f"the GPU failed while {what}: {said}. Free memory on it or lower shapes.batches; "
            "nvidia-smi shows what else runs there."
        ) from error
