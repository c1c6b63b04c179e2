"""The float side of the export stage in a process of its own: original.onnx and the reference that is made with it.

The exporter is Python on one core. The unmodified model and the quantized one have nothing to tell each other, so the
stage exports the first here, beside the second, each on a core. `python -m pipeline.model.unrewritten` is that
process: it reads a request from stdin, writes into the stage's staging folder, and answers with one line of JSON where
it cannot.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline import errors
from pipeline.recipe import Recipe


@contextlib.contextmanager
def exported_beside(recipe: Recipe, area: Path) -> Iterator[None]:
    """Runs the process while the block runs, and waits for it; whatever ends the block ends the process too.

    Raises what the process met: a PipelineError, an OSError of a full disk, RuntimeError for all else.
    """
    request = json.dumps({"recipe": recipe.model_dump(mode="json"), "area": str(area.resolve())})
    places = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.model.unrewritten"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))},
    )
    try:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin:  # its own answer says why it is gone
            process.stdin.write(request)
        process.stdin = None
        yield
        answer, _ = process.communicate()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode:
        _raise(answer, process.returncode)


def _raise(answer: str, code: int) -> None:
    """Raises the fault of the process here."""
    try:
        fault = json.loads(answer.splitlines()[-1])
    except (IndexError, ValueError):
        end = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        raise RuntimeError(f"the process that exports the float model {end}; it may have run out of memory") from None
    if fault["kind"] == "OSError":
        raise OSError(fault["errno"], fault["message"])
    raise getattr(errors, fault["kind"])(fault["message"])


def main() -> None:
    """Reads {recipe, area} from stdin; writes the float side of the export stage."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to both; the stage ends this process when it must
    request = json.load(sys.stdin)
    try:
        from pipeline.model.float_side import export_original

        export_original(Recipe.model_validate(request["recipe"]), Path(request["area"]))
    except errors.PipelineError as error:
        _answer(kind=type(error).__name__, message=str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _answer(kind="OSError", message=error.strerror, errno=error.errno)


def _answer(**fault: object) -> None:
    print(json.dumps(fault), flush=True)  # noqa: T201
    sys.exit(2)


if __name__ == "__main__":
    main()
