"""The command line: run in this process, in a fresh one, and read off messages that print it."""

from __future__ import annotations

import inspect
import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from helpers import ROOT
from pipeline.recipe import Recipe


@dataclass(frozen=True)
class Answer:
    """What one call of the command line gave."""

    code: int
    out: str
    err: str


Cli = Callable[..., Answer]


def call_cli(capture: Callable[[], tuple[str, str]], *arguments: object) -> Answer:
    """Returns the answer of `python -m pipeline <arguments>`, run in this process."""
    from pipeline.cli import main

    logger, argv = logging.getLogger("pipeline"), sys.argv
    before, state = list(logger.handlers), (logger.level, logger.propagate)
    capture()
    sys.argv = ["pipeline", *map(str, arguments)]
    code = 0
    try:
        main.main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = argv
        logger.handlers[:] = before
        logger.level, logger.propagate = state
    return Answer(code, *capture())


def printed(message: object) -> list[list[str]]:
    """Returns the words behind `python -m pipeline` of every command line in a message, as a shell splits them."""
    found, text = [], str(message)
    for start in re.finditer("-m pipeline ", text):
        for end in re.finditer("`|\n|$", text[start.end() :]):
            with suppress(ValueError):  # the end of a line or of `…` inside quotes
                found.append(shlex.split(text[start.end() :][: end.start()]))
                break
    return found


def recipe_of(words: list[str]) -> Recipe:
    """Returns the recipe that the command line makes of these words, parsed as a call of it parses them."""
    import typer

    from pipeline.cli import main, options

    verb, *rest = words
    command = typer.main.get_command(main.app).commands[verb]  # type: ignore[attr-defined]
    given = command.make_context(verb, list(rest)).params
    asked = inspect.signature(options.make_recipe).parameters
    return options.make_recipe(**{name: given[name] for name in asked})  # type: ignore[no-any-return]


WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def python(code: str, *arguments: str, absent: Iterable[str] = ()) -> subprocess.CompletedProcess[str]:
    """Runs Python code in a fresh process, which finds none of the packages that are to be absent."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT.format(absent=tuple(absent)) + code, *arguments],
        capture_output=True, text=True, cwd=ROOT, timeout=300, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
