"""What is told on stderr while a command works."""

from __future__ import annotations

import logging
import sys

log = logging.getLogger("pipeline")


def announce(line: str) -> None:
    """Prints one line about a stage to stderr."""
    print(line, file=sys.stderr, flush=True)


class _Lines(logging.Handler):
    """Prints to what stderr is by then: while progress is shown, lines stand above it."""

    def emit(self, record: logging.LogRecord) -> None:
        announce(self.format(record))


def log_to_stderr() -> None:
    """Shows what the package logs, from INFO on."""
    log.addHandler(_Lines())
    log.setLevel(logging.INFO)
    log.propagate = False  # absl, which comes with pytorch-quantization, formats everything on the root logger
