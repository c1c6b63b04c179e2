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
    not allowed the mark of the whole process is returned.
    """

    def __enter__(self) -> PeakMemory:
        with contextlib.suppress(OSError):
            _CLEAR.write_text("5")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def peak(self) -> int:
        """Returns bytes."""
        try:
            for line in _STATUS.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        except OSError:
            pass
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
