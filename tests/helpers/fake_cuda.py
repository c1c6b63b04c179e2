"""A stand-in for NVIDIA's driver and runtime libraries whose GPU memory is this process's: copies are checked.

Arguments must be ctypes objects, as the real library would get 32 bits of a plain int. Copies are made at once, but an
array that was downloaded is only good after the stream was synchronized: until then it holds a pattern.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

OUT_OF_MEMORY = 2
PATTERN = 0xA5
TO_DEVICE, TO_HOST = 1, 2  # of cudaMemcpyKind


def _checked(function: Callable[..., int]) -> Callable[..., int]:
    def call(self: FakeDriver, *arguments: Any) -> int:
        for argument in arguments:
            assert isinstance(argument, (ctypes._SimpleCData, ctypes.Array)) or hasattr(argument, "_obj"), (
                f"{function.__name__} got a bare {type(argument).__name__}"
            )
        self.calls.append(function.__name__)
        self._last = self.fail.get(function.__name__) or function(self, *arguments)
        return self._last

    return call


class FakeDriver:
    """libcuda and libcudart with one GPU. fail: status by function name. streams: how many are open."""

    def __init__(self, name: str = "NVIDIA Fake", capability: tuple[int, int] = (8, 6), gpus: int = 1) -> None:
        self.name, self.capability, self.gpus = name, capability, gpus
        self.fail: dict[str, int] = {}
        self.calls: list[str] = []
        self.memory: dict[int, Any] = {}
        self._pending: list[tuple[int, bytes]] = []
        self._made = self.streams = self._last = 0
        self.cudaGetErrorString = ErrorString()

    @staticmethod
    def missing(name: str) -> Any:
        """Stands in for ctypes.CDLL where there is no such library."""
        raise OSError(f"{name}: cannot open shared object file")

    @_checked
    def cuInit(self, flags: Any) -> int:
        return 0

    @_checked
    def cuDeviceGet(self, device: Any, ordinal: Any) -> int:
        return 0 if ordinal.value < self.gpus else 101

    @_checked
    def cuDeviceGetName(self, name: Any, length: Any, device: Any) -> int:
        name.value = self.name.encode()
        return 0

    @_checked
    def cuDeviceGetAttribute(self, value: Any, attribute: Any, device: Any) -> int:
        value._obj.value = self.capability[{75: 0, 76: 1}[attribute.value]]
        return 0

    def cudaGetLastError(self) -> int:
        return self._last

    @_checked
    def cudaStreamCreate(self, stream: Any) -> int:
        self._made += 1
        self.streams += 1
        stream._obj.value = 0x2000 + self._made
        return 0

    @_checked
    def cudaStreamDestroy(self, stream: Any) -> int:
        self.streams -= 1
        return 0

    @_checked
    def cudaStreamSynchronize(self, stream: Any) -> int:
        assert stream.value
        for address, content in self._pending:
            ctypes.memmove(address, content, len(content))
        self._pending.clear()
        return 0

    @_checked
    def cudaMalloc(self, address: Any, size: Any) -> int:
        buffer = (ctypes.c_ubyte * size.value)()
        address._obj.value = ctypes.addressof(buffer)
        self.memory[ctypes.addressof(buffer)] = buffer
        return 0

    @_checked
    def cudaFree(self, address: Any) -> int:
        if address.value:
            del self.memory[address.value]
        return 0

    @_checked
    def cudaMemcpyAsync(self, target: Any, source: Any, size: Any, kind: Any, stream: Any) -> int:
        assert stream.value and kind.value in (TO_DEVICE, TO_HOST)
        assert size.value <= len(self.memory[target.value if kind.value == TO_DEVICE else source.value])
        if kind.value == TO_DEVICE:
            ctypes.memmove(target.value, source.value, size.value)
        else:
            self._pending.append((target.value, ctypes.string_at(source.value, size.value)))
            ctypes.memset(target.value, PATTERN, size.value)
        return 0


class ErrorString:
    """cudaGetErrorString, whose `restype` says what it returns."""

    restype: Any = ctypes.c_int

    def __call__(self, status: Any) -> bytes:
        assert self.restype is ctypes.c_char_p
        return {OUT_OF_MEMORY: b"out of memory"}.get(status.value, b"some error")
