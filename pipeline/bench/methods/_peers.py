"""What the quantizers of others share: whether their packages are here, the data, and a process of their own."""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.backends import missing_package
from pipeline.bench.methods import Method, _calibration_data, original
from pipeline.measure import machine, processor

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.bench.methods._calibration_data import Arrays

INSTALL = "pip install '.[bench]'"
OUTPUT = "output.txt"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Peer(Method):
    """A quantizer of others. same_in_8_bits: of one with weights of 7 bits the label of its twin with 8.

    Weights of 7 bits have their place where sums of 8 saturate, and nowhere else.
    """

    same_in_8_bits: str | None = None
    peer: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ()
    calibrated: ClassVar[bool] = True  # whether `quantize` gets samples

    def unavailable_reason(self) -> str | None:
        missing_here = super().unavailable_reason() or missing(*self.packages)
        here = machine.processor_class()
        if missing_here or not self.same_in_8_bits or processor.saturates(here):
            return missing_here
        return f"sums cannot saturate on this processor ({here}): {self.same_in_8_bits!r} is the same in 8 bits"

    def build(self, workspace: Workspace, area: Path) -> None:
        samples = _calibration_data.arrays(workspace) if self.calibrated else {}
        apart(area, self.quantize, original(workspace), area, samples)

    def quantize(self, float_onnx: Path, area: Path, samples: Arrays) -> None:
        """Writes the quantized model into `area`; runs in a process of its own."""
        raise NotImplementedError


def missing(*packages: str) -> str | None:
    """Returns why a peer cannot run here with the command that installs it, None where every package is there.

    Nothing that is there is imported: most of these packages load torch.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            return missing_package(package, INSTALL)
    return None


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
