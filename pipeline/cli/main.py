"""`python -m pipeline <verb> <model> [options]`: results on stdout, logs and progress on stderr.

Exit codes: 0 pass, 1 budget missed, 2 bad input, 3 backend unavailable, 70 a fault of this project's.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback

import typer

from pipeline import distributed
from pipeline.cli import benchmarks, diagnosis, engines, gpu
from pipeline.cli.log import log_to_stderr
from pipeline.errors import InputError, PipelineError, in_short

FAULT = 70  # EX_SOFTWARE of sysexits.h

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A Hugging Face SegFormer or BERT checkpoint goes in, a verified int8 engine comes out.",
)
for group in (engines, diagnosis, benchmarks, gpu):
    app.add_typer(group.app)


def main() -> None:
    """Runs the command line; every fault becomes one message and an exit code."""
    try:
        with distributed.session(next(iter(sys.argv[1:]), "")):
            log_to_stderr()
            app(prog_name="python -m pipeline")
    except PipelineError as error:
        if "--json" in sys.argv:
            print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as stop:
        if stop.code == distributed.INTERRUPTED:  # what typer makes of Ctrl-C
            print("interrupted; earlier artifacts are unchanged.", file=sys.stderr)
            sys.exit(InputError.exit_code)
        raise
    except Exception as error:  # noqa: BLE001 -- the last boundary: a fault of ours must not look like a missed budget
        print(f"error: {_report_fault(error)}", file=sys.stderr)
        sys.exit(FAULT)


def _report_fault(error: Exception) -> str:
    """Returns one line about a fault of this project's; the traceback goes to a file that the line names."""
    trace = "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile("w", prefix="int8-pipeline-", suffix=".log", delete=False) as file:
            file.write(f"{' '.join(sys.argv)}\n{trace}")
        where = f"the traceback is in {file.name}; please report it"
    except OSError:
        where = f"please report it with this traceback:\n{trace}"
    return f"a fault of this program, {type(error).__name__}: {in_short(error)}; {where}"
