"""One thread per rank tells a slow rank from a lost one: it beats to all others, and ends its process when one stops.

    rank 0   beat ─────► 1, 2      A killed rank closes its connections, and a stopped one sends nothing for
    rank 1   beat ─────► 0, 2      `patience` seconds. Either way the thread of every other rank prints an error and
    rank 2   beat ─────► 0, 1      ends its process at once, whatever that was doing; what was written stays whole.

A rank that computes for hours beats all the while, as libraries release the interpreter while they compute. A call
that holds it for `patience` seconds counts as stuck: INT8_PIPELINE_PATIENCE says how many, by default 20. Nothing
depends on rank 0 or on a store. The connections belong to a group of their own, so no long transfer delays a beat.
"""

from __future__ import annotations

import os
import threading
from datetime import timedelta
from typing import NoReturn

from pipeline.errors import InputError, PipelineError

VARIABLE = "INT8_PIPELINE_PATIENCE"
DEFAULT = 20.0  # torchrun needs 30 s more for the end of a stopped process: less than a minute in all
ROUNDS = 10  # within the patience


def patience() -> float:
    """Returns for how many seconds a rank may be silent. Raises InputError for anything but a number above 0."""
    text = os.environ.get(VARIABLE, str(DEFAULT))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InputError(f"{VARIABLE}={text}: expected seconds above 0; leave it out for {DEFAULT:g}.")
    return seconds


class Pulse(threading.Thread):
    """Beats over the default process group until every rank has finished."""

    def __init__(self, rank: int, size: int, seconds: float) -> None:
        super().__init__(name="pulse", daemon=True)
        self.seconds = seconds
        self._others = [other for other in range(size) if other != rank]
        self._finished = threading.Event()
        self._awaited = rank
        self._told: int | None = None  # the exit code of an error that rank 0 prints

    def run(self) -> None:
        try:
            while not self._all_finished():
                self._finished.wait(self.seconds / ROUNDS)
        except RuntimeError:  # what gloo makes of a process that is gone or silent
            if self._told is None:
                lost = f"rank {self._awaited} is gone, or gave no sign of life for {self.seconds:g} s"
                text = f"error: another process of this run ended unexpectedly: {lost}; see what it printed.\n"
                os.write(2, text.encode())  # whatever sys.stderr is by now
            os._exit(PipelineError.exit_code if self._told is None else self._told)

    def finish(self) -> None:
        """Returns when every rank has called it."""
        self._finished.set()
        self.join()

    def follow(self, code: int) -> NoReturn:
        """Ends this process with `code`, without a word, as soon as rank 0 has printed the error and ended."""
        self._told = code
        self.join()
        raise SystemExit(code)

    def _all_finished(self) -> bool:
        """Returns whether every rank has finished, after exchanging one beat with each."""
        import torch
        import torch.distributed as dist

        own, limit = torch.tensor([int(self._finished.is_set())]), timedelta(seconds=self.seconds)
        beats, sent = [own], []
        for rank in self._others:
            self._awaited = rank
            sent.append(dist.isend(own, rank))
        for rank in self._others:
            self._awaited = rank
            beats.append(torch.empty_like(own))
            dist.irecv(beats[-1], rank).wait(limit)  # type: ignore[union-attr]
        for work in sent:
            work.wait(limit)  # type: ignore[union-attr]
        return all(map(bool, beats))
