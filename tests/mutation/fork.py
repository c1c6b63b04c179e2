"""pytest in a process of its own, forked from one that has the heavy packages in memory already."""

from __future__ import annotations

import gc
import importlib
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from helpers import ROOT
from mutation import WORK

HEAVY = ("torch", "numpy", "onnx", "onnx_ir", "onnxruntime", "openvino", "transformers", "safetensors.numpy",
         "pydantic", "typer", "rich.console", "jinja2", "tokenizers", "PIL.Image", "hypothesis.strategies",
         "hypothesis.extra.numpy", "pytorch_quantization.nn", "pytorch_quantization.calib",
         "_pytest.assertion.rewrite")  # fmt: skip
MEMORY = 8 << 30  # bytes; a mutant may ask for any number
TIMED_OUT = -1


def load_heavy() -> None:
    """Imports what the tests import, but nothing of this project: a mutant is imported by its own process."""
    WORK.mkdir(exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # what the tests compute is small, and the next mutant waits
    for name in HEAVY:
        with suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # nor does a child's collector walk through all of it


def pytest_of(
    tests: Sequence[str],
    log: Path,
    *,
    seconds: float,
    plugins: Sequence[Any] = (),
    mutant: tuple[Path, str] | None = None,
) -> int:
    """Returns the exit code of pytest on some tests, TIMED_OUT after so many seconds.

    mutant: (file of a module, the source that it has in that process alone).
    """

    def work() -> int:
        import pytest

        if mutant is not None:
            _put_in(*mutant)
        sys.dont_write_bytecode = False  # what the tests are compiled to is there for the next one
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:unraisableexception"]
        with tempfile.TemporaryDirectory(dir=WORK) as folder:
            return int(pytest.main([*options, f"--basetemp={folder}/tmp", *tests], plugins=list(plugins)))

    return _forked(work, log, seconds)


def _forked(work: Callable[[], int], log: Path, seconds: float) -> int:
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _become_a_child(work, log)
    end, pause = time.monotonic() + seconds, 0.005
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1
        time.sleep(pause)
        pause = min(0.05, 1.2 * pause)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return TIMED_OUT


def _become_a_child(work: Callable[[], int], log: Path) -> None:
    """Never returns; what the work prints goes to a file."""
    code = 1
    try:
        os.setpgid(0, 0)  # so that what it starts ends with it
        resource.setrlimit(resource.RLIMIT_AS, (_mapped() + MEMORY, resource.RLIM_INFINITY))
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(ROOT)
        code = work()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(code)


def _mapped() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _put_in(file: Path, source: str) -> None:
    """Makes every later import of a file in this process see another source."""
    original = SourceFileLoader.get_code

    def get_code(loader: SourceFileLoader, name: str) -> Any:
        if Path(loader.path) == file:
            return compile(source, str(file), "exec", dont_inherit=True)
        return original(loader, name)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign,assignment]
