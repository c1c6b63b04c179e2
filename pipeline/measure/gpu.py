"""What nvidia-smi tells of the GPU: name, driver, clocks."""

from __future__ import annotations

import os
import shutil
import subprocess

FIELDS = {
    "name": "name",
    "driver": "driver_version",
    "sm_mhz": "clocks.sm",
    "memory_mhz": "clocks.mem",
    "most_sm_mhz": "clocks.max.sm",
    "most_memory_mhz": "clocks.max.mem",
    "celsius": "temperature.gpu",
    "watt": "power.draw",
    "state": "pstate",
}
Value = str | float | None


def query() -> dict[str, Value]:
    """Returns FIELDS of the first visible GPU now; None for what nvidia-smi does not tell, or without it."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return dict.fromkeys(FIELDS)
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0"
    command = [tool, f"--id={first}", f"--query-gpu={','.join(FIELDS.values())}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603 -- fixed
    except (OSError, subprocess.SubprocessError):
        return dict.fromkeys(FIELDS)
    return parse(answer.stdout)


def parse(text: str) -> dict[str, Value]:
    """Returns FIELDS of nvidia-smi's first line of comma-separated values."""
    line = next(iter(text.splitlines()), "")
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) != len(FIELDS):
        return dict.fromkeys(FIELDS)
    return {name: _value(cell) for name, cell in zip(FIELDS, cells, strict=True)}


def _value(cell: str) -> Value:
    if not cell or cell.startswith("["):  # "[N/A]", "[Not Supported]"
        return None
    try:
        return float(cell) if cell.count(".") < 2 else cell  # a driver has two dots
    except ValueError:
        return cell
