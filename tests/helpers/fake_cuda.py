"""A stand-in for NVIDIA's driver library whose GPU memory is this process's: addresses are real, copies are checked.

Arguments must be ctypes objects, as the real library would get 32 bits of a plain int. Copies are made at once, but an
array that was downloaded is only good after the stream was synchronized: until then it holds a pattern.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

OUT_OF_MEMORY = 2
PATTERN = 0xA5


def _checked(function: Callable[..., int]) -> Callable[..., int]:
    def call(self: FakeDriver, *arguments: Any) -> int:
        for argument in arguments:
            assert isinstance(argument, (ctypes._SimpleCData, ctypes.Array)) or hasattr(argument, "_obj"), (
                f"{function.__name__} got a bare {type(argument).__name__}"
            )
        self.calls.append(function.__name__)
        return self.fail.get(function.__name__) or function(self, *arguments)

    return call


class FakeDriver:
    """libcuda with one GPU. fail: status by function name."""

    def __init__(self, name: str = "NVIDIA Fake", capability: tuple[int, int] = (8, 6), gpus: int = 1) -> None:
        self.name, self.capability, self.gpus = name, capability, gpus
        self.fail: dict[str, int] = {}
        self.calls: list[str] = []
        self.memory: dict[int, Any] = {}
        self._pending: list[tuple[int, bytes]] = []
        self._streams = 0
        self.contexts = 0

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

    @_checked
    def cuGetErrorString(self, status: Any, text: Any) -> int:
        text._obj.value = {OUT_OF_MEMORY: b"out of memory"}.get(status.value, b"some error")
        return 0

    @_checked
    def cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:
        self.contexts += 1
        context._obj.value = 0x1000
        return 0

    @_checked
    def cuDevicePrimaryCtxRelease_v2(self, device: Any) -> int:
        self.contexts -= 1
        return 0

    @_checked
    def cuCtxSetCurrent(self, context: Any) -> int:
        assert context.value == 0x1000
        return 0

    @_checked
    def cuStreamCreate(self, stream: Any, flags: Any) -> int:
        self._streams += 1
        stream._obj.value = 0x2000 + self._streams
        return 0

    @_checked
    def cuStreamDestroy_v2(self, stream: Any) -> int:
        return 0

    @_checked
    def cuStreamSynchronize(self, stream: Any) -> int:
        assert stream.value
        for address, content in self._pending:
            ctypes.memmove(address, content, len(content))
        self._pending.clear()
        return 0

    @_checked
    def cuMemAlloc_v2(self, address: Any, size: Any) -> int:
        buffer = (ctypes.c_ubyte * size.value)()
        address._obj.value = ctypes.addressof(buffer)
        self.memory[ctypes.addressof(buffer)] = buffer
        return 0

    @_checked
    def cuMemFree_v2(self, address: Any) -> int:
        del self.memory[address.value]
        return 0

    @_checked
    def cuMemcpyHtoDAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> int:
        assert size.value <= len(self.memory[target.value])
        ctypes.memmove(target.value, source.value, size.value)
        return 0

    @_checked
    def cuMemcpyDtoHAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> int:
        assert size.value <= len(self.memory[source.value])
        self._pending.append((target.value, ctypes.string_at(source.value, size.value)))
        ctypes.memset(target.value, PATTERN, size.value)
        return 0
