"""The command lines that messages print: each runs as printed, and on the folder that the message is about.

All are made here, quoted for a shell, from what a folder's manifest says it was made with (or from the recipe of the
present run): the family, the folder, and every setting that is not the family's default.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.measure import machine

NAMED = {"checkpoint": "--checkpoint", "data": "--data", "backend": "--backend", "calibration.method": "--calibration"}


def call(*words: object, python: str | None = None) -> str:
    """Returns the command line `python -m pipeline <words>`; python: None for the interpreter that runs here."""
    return shlex.join([python or interpreter(), "-m", "pipeline", *map(str, words)])


def on_folder(verb: str, folder: Path, recorded: Mapping[str, Any], *more: str, python: str | None = None) -> str:
    """Returns the command line of a verb on an artifact folder, with the settings `recorded` (see `changed`)."""
    options = []
    for name, value in changed(recorded).items():
        options += [NAMED[name], value] if name in NAMED else ["--set", f"{name}={as_text(value)}"]
    if is_elsewhere(folder, recorded["family"]):
        options += ["--output", folder]
    return call(verb, recorded["family"], *options, *more, python=python)


def changed(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Returns {dotted name: value} of the settings that are not the family's defaults.

    recorded: a recipe as the manifest holds it. What an older one has and recipes have no more is left out.
    """
    from pipeline.recipe import Recipe

    usual = dict(leaves(Recipe.load(recorded["family"]).model_dump(mode="json", exclude={"folder"})))
    return {name: value for name, value in leaves(recorded) if name in usual and value != usual[name]}


def by_make(target: str, variables: Mapping[str, object], arguments: list[str]) -> str:
    """Returns the command line of one of the Makefile's targets, for its folder, with options in ARGS.

    Twice quoted: make hands ARGS to a shell, and expands what has a dollar sign before. CPU=avx2 of the present call of
    make is named too, as the Makefile sets ONEDNN_MAX_CPU_ISA by it.
    """
    given = {**variables, "ARGS": shlex.join(arguments)} if arguments else dict(variables)
    given |= {"CPU": os.environ["CPU"]} if machine.CAP in os.environ and "CPU" in os.environ else {}
    words = [f"{name}={shlex.quote(str(value).replace('$', '$$'))}" for name, value in given.items()]
    return " ".join(["make", target, *words])


def leaves(document: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted name, value) of every setting."""
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{before}{key}.")
        else:
            yield before + key, value


def as_text(value: Any) -> str:
    """Returns a setting's value as `--set` reads it back."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def is_elsewhere(folder: Path, family: str) -> bool:
    """Returns whether a folder is another one than where the family's artifacts land without --output."""
    return Path(folder) != Path("exports") / family


def interpreter() -> str:
    """Returns `python` where a shell finds the present interpreter by that name, else its path."""
    if not sys.executable:
        return "python"
    here, found = Path(sys.executable), shutil.which("python")
    if found and Path(found).parent == here.parent:
        return "python"
    return os.path.relpath(here) if here.is_relative_to(Path.cwd()) else str(here)
