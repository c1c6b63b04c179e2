"""`python -m pipeline.cli.install WHAT pip-arguments…`: pip install, with its progress on one line of a terminal.

The first `make` takes minutes here. Needs nothing but Python: it is what brings the rest.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

from pipeline.progress import clock


def install(what: str, arguments: Sequence[str]) -> int:
    """Returns pip's exit code; what it said is shown where it fails, and its newest line meanwhile on a terminal."""
    shown = sys.stderr.isatty()
    sys.stderr.write(f"installing {what} (once)\n")
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    start, said = time.monotonic(), []
    with subprocess.Popen(  # noqa: S603 -- our own command line
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            said.append(line)
            if shown:
                _show(f"{clock(time.monotonic() - start)}  {line.strip()}")
    if shown:
        _show("")
    if pip.returncode:
        sys.stderr.write("".join(said))
    return pip.returncode


def _show(text: str) -> None:
    """Puts one line in place of the last one."""
    sys.stderr.write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(install(sys.argv[1], sys.argv[2:]))
