"""Peak resident memory of a stretch of code."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path
from types import TracebackType

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class PeakMemory:
    """Measures the peak resident set between `__enter__` and `peak()`, in bytes.

    Linux keeps a high-water mark per process (VmHWM) that writing 5 to clear_refs resets (proc(5)). Where that is
    not allowed, the mark since the process began is returned. The peak of the largest process started and ended in
    between is added: an upper bound, as the two need not meet.
    """

    def __init__(self) -> None:
        self._largest_child = _largest_child()

    def __enter__(self) -> PeakMemory:
        with contextlib.suppress(OSError):
            _CLEAR.write_text("5")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def peak(self) -> int:
        """Returns the peak in bytes."""
        try:
            for line in _STATUS.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024 + self._new_child()
        except OSError:
            pass
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + self._new_child()

    def _new_child(self) -> int:
        """Returns the peak of the largest child process that ended since; 0 where an earlier one was larger."""
        largest = _largest_child()
        return largest if largest > self._largest_child else 0


def _largest_child() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
