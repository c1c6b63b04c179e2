"""NVIDIA's driver through ctypes: which GPU this is, memory on it, a stream.

Without libcudart, which Polygraphy needs: TensorRT 8.6 links it into itself, so where only its wheel was copied there
is none, but no GPU runs without the driver's libcuda. The device's primary context is the one that TensorRT uses, so
addresses and streams are good on both sides.

Every argument is a ctypes object: a plain int would be passed with 32 bits.
"""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pipeline.errors import BackendUnavailable

if TYPE_CHECKING:
    from pipeline.backends import Array

LIBRARY = "libcuda.so.1"
CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the default stream
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
    name = ctypes.create_string_buffer(NAME_LENGTH)
    _check(driver, driver.cuDeviceGetName(name, ctypes.c_int(NAME_LENGTH), ordinal), "reading the GPU's name")
    numbers = []
    for attribute in CAPABILITY:
        value = ctypes.c_int()
        status = driver.cuDeviceGetAttribute(ctypes.byref(value), ctypes.c_int(attribute), ordinal)
        _check(driver, status, "reading the compute capability")
        numbers.append(value.value)
    return Device(name.value.decode(), f"{numbers[0]}.{numbers[1]}")


def _check(driver: Any, status: int, what: str) -> None:
    """Raises BackendUnavailable with the driver's own words for a status that is not success."""
    if status == 0:
        return
    text = ctypes.c_char_p()
    driver.cuGetErrorString(ctypes.c_int(status), ctypes.byref(text))
    said = text.value.decode() if text.value else "unknown error"
    raise BackendUnavailable(
        f"the GPU failed while {what}: {said} (CUDA error {status}). Free memory on it or lower shapes.batches; "
        "nvidia-smi shows what else runs there."
    )


class Cuda:
    """The primary context of the first visible GPU, and a stream on it. Raises BackendUnavailable without a GPU."""

    def __init__(self) -> None:
        driver = library()
        if driver is None:
            raise BackendUnavailable(f"no NVIDIA GPU can be used here: {LIBRARY} is missing or finds none.")
        self._driver, self._device = driver, ctypes.c_int()
        self._context, handle = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("finding the GPU", driver.cuDeviceGet, ctypes.byref(self._device), ctypes.c_int(0))
        self._call("opening it", driver.cuDevicePrimaryCtxRetain, ctypes.byref(self._context), self._device)
        self.activate()
        self._call("making a stream", driver.cuStreamCreate, ctypes.byref(handle), ctypes.c_uint(NON_BLOCKING))
        self.stream = int(handle.value or 0)

    def _call(self, what: str, function: Any, *arguments: Any) -> None:
        _check(self._driver, function(*arguments), what)

    def activate(self) -> None:
        """Makes the context this thread's; every thread that uses the GPU needs that."""
        self._call("selecting it", self._driver.cuCtxSetCurrent, self._context)

    def allocate(self, size: int) -> int:
        """Returns the address of `size` new bytes on the GPU."""
        address = ctypes.c_uint64()
        what = f"allocating {size / 2**20:.1f} MiB"
        self._call(what, self._driver.cuMemAlloc_v2, ctypes.byref(address), ctypes.c_size_t(max(size, 1)))
        return address.value

    def free(self, address: int) -> None:
        """Gives memory back."""
        self._call("freeing memory", self._driver.cuMemFree_v2, ctypes.c_uint64(address))

    def upload(self, array: Array, address: int) -> None:
        """Copies a contiguous array to the GPU, in the stream's order; it must live until `synchronize`."""
        copy, host = self._driver.cuMemcpyHtoDAsync_v2, ctypes.c_void_p(array.ctypes.data)
        size, stream = ctypes.c_size_t(array.nbytes), ctypes.c_void_p(self.stream)
        self._call("copying inputs", copy, ctypes.c_uint64(address), host, size, stream)

    def download(self, address: int, array: Array) -> None:
        """Copies from the GPU into a contiguous array, in the stream's order; valid after `synchronize`."""
        copy, host = self._driver.cuMemcpyDtoHAsync_v2, ctypes.c_void_p(array.ctypes.data)
        size, stream = ctypes.c_size_t(array.nbytes), ctypes.c_void_p(self.stream)
        self._call("copying outputs", copy, host, ctypes.c_uint64(address), size, stream)

    def synchronize(self) -> None:
        """Waits for everything in the stream."""
        self._call("running the engine", self._driver.cuStreamSynchronize, ctypes.c_void_p(self.stream))

    def close(self) -> None:
        """Gives stream and context back; the second call does nothing."""
        if self.stream:
            handle, self.stream = ctypes.c_void_p(self.stream), 0
            self._call("closing the stream", self._driver.cuStreamDestroy_v2, handle)
            self._call("closing it", self._driver.cuDevicePrimaryCtxRelease_v2, self._device)


class Buffers:
    """Memory on the GPU by tensor name; a buffer grows when it must and is freed with this object."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._held: dict[str, tuple[int, int]] = {}  # name -> address, bytes

    def address(self, name: str, size: int) -> int:
        """Returns the address of at least `size` bytes for a tensor; a larger size than before moves it."""
        address, held = self._held.get(name, (0, 0))
        if held >= size and address:
            return address
        if address:
            self._cuda.free(address)
            del self._held[name]
        self._held[name] = (self._cuda.allocate(size), size)
        return self._held[name][0]

    def close(self) -> None:
        """Frees everything."""
        while self._held:
            self._cuda.free(self._held.popitem()[1][0])

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at the interpreter's end the driver may be gone before us
            self.close()
