"""What the methods of others share: whether their packages are here, and a process of their own to quantize in."""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.backends import missing_package
from pipeline.measure import machine, processor

INSTALL = "pip install '.[bench]'"
OUTPUT = "output.txt"
log = logging.getLogger(__name__)


def missing(*packages: str) -> str | None:
    """Returns why a peer cannot run here with the command that installs it, None where every package is there.

    Nothing that is there is imported: most of these packages load torch.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            return missing_package(package, INSTALL)
    return None


def no_saturation(label: str) -> str | None:
    """Returns why a method with weights of 7 bits has no place here: sums of 8 bits are right; None where it has."""
    here = machine.processor_class()
    if processor.saturates(here):
        return None
    return f"sums cannot saturate on this processor ({here}): {label!r} is the same in 8 bits"


def apart(area: Path, work: Callable[..., None], *arguments: Any) -> None:
    """Runs `work(*arguments)` in a new process that prints to `area`/output.txt; its exception is raised here.

    ModelOpt replaces functions of onnxruntime.quantization when it is imported: in one process, ONNX Runtime's own
    quantizer would be ModelOpt's from then on. A crash in C++ is an exception here too.
    """
    area.mkdir(parents=True, exist_ok=True)
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, spawn, initializer=_enter, initargs=(area / OUTPUT,)) as pool:
            pool.submit(work, *arguments).result()
    finally:
        if (area / OUTPUT).exists():
            log.debug("%s: %s", area.name, (area / OUTPUT).read_text(encoding="utf-8", errors="replace"))


def _enter(output: Path) -> None:
    """Turns stdout and stderr of this process, C++ included, to a file; turns NNCF's telemetry off."""
    with output.open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.environ["NNCF_CI"] = "1"  # read when nncf is imported
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # a run that was killed leaves nothing behind that takes the cores from the next
