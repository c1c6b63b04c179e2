"""The `make …` line that a measurement is recorded with: what the user gave, read from the parsed call."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

import typer

from pipeline.artifacts import commands

VARIABLES = {"model": "MODEL", "checkpoint": "CHECKPOINT", "data": "DATA", "backend": "BACKEND"}
VARIABLES |= {"calibration": "CALIBRATION"}  # as the Makefile names them; all other options go into ARGS
NOT_OF_THE_MEASUREMENT = {"record", "as_json"}


def make_line(context: typer.Context) -> str:
    """Returns the call of make that measures what this call of the command line does.

    Options stand in the order in which the command declares them. Of a path from the root only the name is told, as
    records are published.
    """
    variables: dict[str, object] = {}
    arguments: list[str] = []
    for option in context.command.params:
        name = str(option.name)
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE" or name in NOT_OF_THE_MEASUREMENT:
            continue
        value: Any = context.params[name]
        if name in VARIABLES:
            variables[VARIABLES[name]] = _published(value)
        elif isinstance(value, bool):
            arguments.append((option.opts if value else option.secondary_opts)[0])
        else:
            for one in value if isinstance(value, list | tuple) else [value]:
                arguments += [option.opts[0], _published(one)]
    return commands.by_make(str(context.command.name), variables, arguments)


def _published(value: object) -> str:
    path = PurePath(str(value))
    return f"…/{path.name}" if path.is_absolute() and isinstance(value, str | Path) else str(value)
