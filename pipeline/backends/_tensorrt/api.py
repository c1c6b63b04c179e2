"""TensorRT's Python module: its version, and the one logger that collects what it says.

The names that these files use exist in TensorRT 8.6, 10 and 11 alike, or stand behind hasattr or getattr;
tests/backends/tensorrt/test_api.py reads them off the sources, by the names of the variables: `trt`, `builder`,
`network`, `parser`, `parser_error`, `network_input`, `config`, `profile`, `cache`, `runtime`, `engine`, `context`,
`inspector`.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
from functools import cache as remembered
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pipeline.errors import BackendUnavailable

log = logging.getLogger(__name__)

OLDEST = (8, 6)
DISTRIBUTIONS = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13")
FAULTS = ("INTERNAL_ERROR", "ERROR")


def module() -> Any:
    """Returns the package `tensorrt`."""
    return importlib.import_module("tensorrt")


def installed() -> str | None:
    """Returns the version of the TensorRT that can be imported here, None without one."""
    try:
        trt = module()
        return str(trt.__version__)
    except (ImportError, OSError, AttributeError):  # AttributeError: a folder of that name is a package without content
        return None


def present() -> str | None:
    """Returns the version of the TensorRT that is installed here, None without one; it need not load: without a GPU's
    libraries it does not, and graphs are still to be written for it.
    """
    found = installed()
    for name in DISTRIBUTIONS:
        if found is None:
            with contextlib.suppress(PackageNotFoundError):
                found = version(name)
    return found


def version_numbers(version: str) -> tuple[int, int]:
    """Returns (major, minor) of a version."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def install_command() -> str:
    """Returns what installs TensorRT for this Python: 8.6.0 has wheels for CPython 3.8 to 3.10 alone.

    It needs cuDNN 8, and asks for any: pip would take 9, with which it does not load.
    """
    newer = "pip install tensorrt-cu12"
    if sys.version_info[:2] == (3, 10):
        return f"pip install tensorrt==8.6.0 'nvidia-cudnn-cu12<9', or for 10 and later {newer}"
    return f"{newer} (TensorRT 8.6.0 needs CPython 3.10)"


@remembered
def collector(trt: Any) -> Any:
    """Returns this process's TensorRT logger; `take_faults` reads what it collected.

    One for all: TensorRT keeps the first logger that it is given and ignores the others.
    """

    class Collector(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.faults: list[str] = []
            self.warned: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity.name in FAULTS:
                self.faults.append(message.strip())
                log.debug("%s", message)
            elif severity.name == "WARNING" and message not in self.warned:
                self.warned.append(message)
                log.warning("TensorRT: %s", message.strip())

    return Collector()


def take_faults(trt: Any) -> list[str]:
    """Returns the errors that TensorRT logged since the last call, each once, in their order."""
    collected = collector(trt)
    found = list(dict.fromkeys(collected.faults))
    collected.faults.clear()
    return found


def quieten() -> None:
    """Keeps Polygraphy from printing on stdout, where results go: what it has to say is in its exceptions too."""
    from polygraphy.logger import G_LOGGER

    G_LOGGER.colors = False  # it would print that its package for colors is missing
    G_LOGGER.use_python_logging_system = True
    logging.getLogger("Polygraphy").setLevel(logging.CRITICAL + 1)


def loaders(trt: Any) -> Any:
    """Returns Polygraphy's loaders, which log to this process's TensorRT logger."""
    from polygraphy.backend import trt as found
    from polygraphy.backend.trt import util

    quieten()
    util.TRT_LOGGER = collector(trt)
    return found


def new_network(trt: Any, *, strongly_typed: bool) -> tuple[Any, Any]:
    """Returns a builder and an empty network.

    Raises BackendUnavailable where TensorRT cannot use the GPU, with what it said. Seen with 8.6.0 where CUDA answers
    "insufficient driver": it warns, and pybind11 raises a TypeError of its own.
    """
    try:
        builder, network = loaders(trt).create_network(strongly_typed=strongly_typed)
    except TypeError as error:
        said = [*take_faults(trt), *(message.strip() for message in collector(trt).warned)]
        raise BackendUnavailable(
            f"TensorRT {trt.__version__} cannot use the GPU here; it said:\n{listed(said)}\n"
            "The driver may be older than the CUDA that this TensorRT is made for: nvidia-smi names both."
        ) from error
    return builder, network


def listed(faults: list[str]) -> str:
    """Returns errors as the indented lines of a message."""
    return "\n".join(f"  {fault}" for fault in faults) or "  TensorRT logged no error"
