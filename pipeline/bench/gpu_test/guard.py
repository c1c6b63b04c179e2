"""A crash of TensorRT costs the engine that it worked on, not the run: the test runs in a process of its own."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.bench.gpu_test.record import KEYS, Record, read
from pipeline.errors import BackendUnavailable, BudgetMissed, InputError

ENDS = (0, BudgetMissed.exit_code, InputError.exit_code, BackendUnavailable.exit_code)


def run(command: Sequence[str], record: Path, announce: Callable[[str], None]) -> int:
    """Returns the exit code of `command`, which is started again after a crash whose cause the record names."""
    while True:
        code = subprocess.run(command, check=False).returncode  # noqa: S603 -- our own module
        if code in ENDS:
            return code
        noted = note_crash(record, code)
        if noted is None:  # the next one would die of the same
            announce(f"gpu-test: the process ended with {death(code)} before it began with an engine")
            return BudgetMissed.exit_code
        announce(f"gpu-test: {noted}; going on")


def note_crash(record: Path, code: int) -> str | None:
    """Returns what a process died of after writing it into the record, None where nothing was being worked on."""
    document = read(record) if record.exists() else None
    running = document["running"] if document else None
    if document is None or not running:
        return None
    kind, entry = running["kind"], running["entry"]
    fault = f"the process ended with {death(code)} while it worked on this"
    Record(record, document).put(kind, {**entry, "fault": fault})
    return f"{', '.join(str(entry[key]) for key in KEYS[kind])}: {fault}"


def death(code: int) -> str:
    """Returns how a process ended; below 0 a signal did it."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
