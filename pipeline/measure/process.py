"""A function of ours in a process of its own: its imports, its threads, its memory and its end are nobody else's.

`python -m pipeline.measure.process` is that process: it reads {function, arguments} from stdin, and answers with one
line of JSON, {value} or the fault of a kind that a user can act on. What a library prints is no answer.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from pipeline import errors

ROOT = Path(__file__).resolve().parents[2]
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class ProcessFault(RuntimeError):
    """A process that ended without an answer: which one, and how it ended."""

    def __init__(self, what: str, end: str) -> None:
        super().__init__(f"{what} {end}")
        self.end = end


def call(
    what: str,
    function: str,
    *arguments: Any,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Any:
    """Returns what a function returns in a process of its own; raises as `Process.result`. Its output is not shown."""
    with Process(what, function, *arguments, environment=environment, shown=False) as process:
        return process.result(timeout)


class Process:
    """A function that runs in another process until `result`, or until the block ends.

    what: its name in faults; function: "module:name"; arguments and result: what JSON can say. environment:
    variables besides ours. shown: whether its stderr is ours. A process whose parent is gone ends itself.
    """

    def __init__(
        self,
        what: str,
        function: str,
        *arguments: Any,
        environment: Mapping[str, str] | None = None,
        shown: bool = True,
    ) -> None:
        self._what = what
        self._files = contextlib.ExitStack()  # files, not pipes: nobody has to drain them while the process writes
        self._answer, self._output = self._file(), None if shown else self._file()
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.measure.process"],
            stdin=subprocess.PIPE,
            stdout=self._answer,
            stderr=self._output,
            text=True,
            env={**os.environ, "PYTHONPATH": path, **(environment or {})},
        )
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"function": function, "arguments": arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # `result` says why it is gone

    def _file(self) -> IO[str]:
        return self._files.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace"))

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._files.close()

    def result(self, timeout: float | None = None) -> Any:
        """Returns the function's result once it is there.

        Raises what the process met: a PipelineError, the OSError of a full disk, ProcessFault for anything else; and
        TimeoutError after `timeout` seconds.
        """
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"took more than {timeout:.0f} s") from None
        answer = _last_line(self._answer)
        if code:
            raise ProcessFault(self._what, _end(code, self._output))
        reply = json.loads(answer)
        if "kind" not in reply:
            return reply["value"]
        if reply["kind"] == "OSError":
            raise OSError(reply["errno"], reply["message"])
        raise getattr(errors, reply["kind"])(reply["message"])


def _end(code: int, output: IO[str] | None) -> str:
    if code == -signal.SIGKILL:
        return f"was killed by signal {-code}, which is what too little memory looks like"
    if code < 0:
        return f"was killed by signal {-code}"
    return f"ended with code {code}" if output is None else f"failed: {_last_line(output)}"


def _last_line(file: IO[str]) -> str:
    file.seek(0)
    return (file.read().strip().splitlines() or ["no message"])[-1]


def main() -> None:
    """Runs the function that stdin names, and answers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to both; the parent ends this process when it must
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # what a library prints is no answer
        request = json.loads(sys.stdin.readline())
        threading.Thread(target=_end_with_parent, daemon=True).start()
        print(json.dumps(_answer(request["function"], request["arguments"])), file=answers)


def _answer(function: str, arguments: list[Any]) -> dict[str, Any]:
    module, _, name = function.partition(":")
    try:
        return {"value": getattr(importlib.import_module(module), name)(*arguments)}
    except errors.PipelineError as error:
        return {"kind": type(error).__name__, "message": str(error)}
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        return {"kind": "OSError", "message": error.strerror, "errno": error.errno}


def _end_with_parent() -> None:
    """Ends this process when the other end of stdin is gone: a killed run leaves nothing that keeps cores busy."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
