"""The installation of the environment: pip's newest line on a terminal, all that it said where it fails."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-S", "-m", "pipeline.cli.install", "a thing"]


def fake_pip(folder: Path, code: int) -> dict[str, str]:
    (folder / "pip.py").write_text(f"import sys\nprint('Collecting', sys.argv[-1])\nsys.exit({code})\n")
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def test_a_terminal_shows_what_pip_does_on_one_line(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run([*COMMAND, "numpy"], env=fake_pip(tmp_path, 0), stderr=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0
    assert shown == "installing a thing (once)\r\n\r\x1b[K0:00  Collecting numpy\r\x1b[K"


def test_a_file_has_one_line_unless_it_fails(tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, "numpy"], env=fake_pip(tmp_path, 0), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "installing a thing (once)\n")
    done = subprocess.run([*COMMAND, "numpy"], env=fake_pip(tmp_path, 3), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "installing a thing (once)\nCollecting numpy\n")
