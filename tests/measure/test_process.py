"""A function in a process of its own: its result, its faults, its end."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline import errors
from pipeline.measure import process
from pipeline.measure.process import Process, ProcessFault, call

# --- what the processes run ---


def add(left: int, right: int) -> dict[str, Any]:
    print("what a library prints is no answer")
    os.write(1, b"nor this\n")
    return {"sum": left + right, "pid": os.getpid(), "variable": os.environ.get("A_VARIABLE")}


def fail(kind: str) -> None:
    if kind == "disk":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if kind == "exit":
        os._exit(3)
    if kind == "signal":
        os.kill(os.getpid(), signal.SIGKILL)
    raise getattr(errors, kind)("what happened") if hasattr(errors, kind) else ValueError("out of range")


def wait(file: str) -> None:
    Path(file).write_text(str(os.getpid()))
    time.sleep(60)


# --- the tests ---


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def run(function: str, *arguments: Any, **settings: Any) -> Any:
    return call("the process", f"{Path(__file__).stem}:{function}", *arguments, **settings)


def test_it_returns_what_the_function_returns_there() -> None:
    found = run("add", 1, 2, environment={"A_VARIABLE": "set"})
    assert found["sum"] == 3 and found["variable"] == "set" and found["pid"] != os.getpid()


@pytest.mark.parametrize("kind", ["InputError", "EngineRefused", "BackendUnavailable"])
def test_faults_of_a_user_keep_their_class(kind: str) -> None:
    with pytest.raises(getattr(errors, kind), match=r"^what happened$"):
        run("fail", kind)


def test_a_full_disk_stays_one() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        run("fail", "disk")
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("ValueError", "the process failed: ValueError: out of range"),
        ("signal", "the process was killed by signal 9, which is what too little memory looks like"),
        ("exit", "the process failed: no message"),
    ],
)
def test_any_other_end_is_told(kind: str, said: str) -> None:
    with pytest.raises(ProcessFault, match=f"^{said}$"):
        run("fail", kind)


def test_it_is_not_waited_for_longer_than_asked(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match=r"took more than 3 s"):
        run("wait", str(tmp_path / "pid"), timeout=3)


def test_it_ends_with_the_block(tmp_path: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), Process("it", f"{Path(__file__).stem}:wait", str(tmp_path / "pid")):
        pid_in(tmp_path / "pid")
        raise KeyboardInterrupt
    ended(tmp_path / "pid")


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    script = f"from pipeline.measure.process import call; call('it', '{Path(__file__).stem}:wait', '{tmp_path}/pid')"
    parent = psutil.Popen([sys.executable, "-c", script], cwd=process.ROOT)
    pid_in(tmp_path / "pid")
    parent.kill()
    parent.wait()
    ended(tmp_path / "pid")


def pid_in(file: Path) -> int:
    """Returns the process number in a file, once it is there."""
    for _ in range(600):
        if file.exists() and file.read_text():
            return int(file.read_text())
        time.sleep(0.1)
    raise AssertionError(f"{file} does not come")


def ended(file: Path) -> None:
    """Waits for the end of the process whose number a file has."""
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid_in(file)).wait(30)
