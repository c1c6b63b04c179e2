"""The parent's side of `scaling.worker`: start it, ask it, and stop it before it takes the machine's memory."""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.bench.scaling.worker import Job

log = logging.getLogger(__name__)

RESERVE = 2**30  # bytes that stay free for everything else on the machine
PATIENCE = 600  # seconds that one answer may take
TICK = 0.05  # seconds between two looks at the memory
KILLED = -9


class WorkerFault(Exception):
    """A worker that gave no answer; `memory`: because there was too little of it."""

    def __init__(self, reason: str, *, memory: bool) -> None:
        super().__init__(reason)
        self.memory = memory


class Worker:
    """One method that was loaded and ran once, in a process of its own.

    seconds: of its second call, for planning.
    """

    def __init__(self, job: Job, log_file: Path) -> None:
        self._log = log_file
        self._text = b""
        self._free = free_bytes()
        command = [sys.executable, "-m", "pipeline.bench.scaling.worker", job.to_json()]
        with log_file.open("wb") as stderr:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)  # noqa: S603 -- our own module

    def __enter__(self) -> Worker:
        try:
            self.seconds = float(self._answer()["seconds"])
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def run(self) -> float:
        """Returns the seconds of one call, by the worker's own clock. Raises WorkerFault."""
        return float(self._ask("run")["seconds"])

    def peak(self) -> int:
        """Returns the largest resident set of the worker's life in bytes, and ends it. Raises WorkerFault."""
        return int(self._ask("end")["peak_rss_bytes"])

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._gone() from error
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        """Returns the next line. Raises WorkerFault for a fault, a crash, a long silence, and when memory runs out."""
        assert self._process.stdout is not None
        descriptor, deadline = self._process.stdout.fileno(), time.monotonic() + PATIENCE
        while b"\n" not in self._text:
            if select.select([descriptor], [], [], TICK)[0]:
                piece = os.read(descriptor, 1 << 16)
                if not piece:
                    raise self._gone()
                self._text += piece
            elif free_bytes() < RESERVE:
                raise WorkerFault(self._too_little(), memory=True)
            elif time.monotonic() > deadline:
                raise WorkerFault(f"no answer within {PATIENCE} s", memory=False)
        line, _, self._text = self._text.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "fault" in answer:
            raise WorkerFault(self._too_little() if answer["memory"] else answer["fault"], memory=answer["memory"])
        return answer

    def _gone(self) -> WorkerFault:
        """Returns what a worker that ended without an answer died of."""
        code = self._process.wait()
        if code == KILLED:
            return WorkerFault(self._too_little(), memory=True)
        said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return WorkerFault(f"ended with code {code}: {(said or ['no message'])[-1]}", memory=False)

    def _too_little(self) -> str:
        return f"does not fit: it needs more than the {max(0, self._free - RESERVE) / 2**30:.1f} GiB that were free"

    def _stop(self) -> None:
        self._process.kill()
        self._process.communicate()  # closes the pipes too
        log.debug("%s: %s", self._log.stem, self._log.read_text(encoding="utf-8", errors="replace"))


def free_bytes() -> int:
    """Returns the memory that can be had without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)
