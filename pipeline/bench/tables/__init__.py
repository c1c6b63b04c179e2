"""README tables from the files that `--record` wrote; nobody types a measured number.

A table stands between `<!-- KIND FILE -->` and `<!-- /KIND -->` and is replaced as a whole. Each kind is one file here,
found by its name:

    def section(document)           -> the Markdown of a result file, from its JSON
    def picture(document, path)     optional: draws the result to `path`, an SVG, and returns the alternative text

The picture has the result file's name, stands above the table and is drawn again with it: the two cannot disagree.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from pipeline.errors import InputError


def kinds() -> list[str]:
    """Returns every kind of table, in alphabetical order."""
    return sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name[0] != "_")


def refresh(readme: Path) -> list[str]:
    """Returns the result files whose tables were written into `readme`. Raises InputError for a missing one."""
    used: list[str] = []

    def replace(match: re.Match[str]) -> str:
        used.append(match["file"])
        file = readme.parent / match["file"]
        return f"{match[1]}{picture(match['kind'], file, match['file'])}{section(match['kind'], file)}{match[4]}"

    block = rf"(<!-- (?P<kind>{'|'.join(kinds())}) (?P<file>\S+) -->\n).*?(<!-- /(?P=kind) -->)"
    text = re.sub(block, replace, readme.read_text(encoding="utf-8"), flags=re.DOTALL)
    readme.write_text(text, encoding="utf-8")
    return used


def section(kind: str, file: Path) -> str:
    """Returns the Markdown of one result file."""
    made: str = load(kind).section(read(file))
    return made


def picture(kind: str, file: Path, named: str) -> str:
    """Returns the Markdown of a result file's picture, drawn beside it; nothing for a kind without one.

    named: the result file as the README names it.
    """
    if not hasattr(load(kind), "picture"):
        return ""
    alternative = load(kind).picture(read(file), file.with_suffix(".svg"))
    return f"![{alternative}]({PurePosixPath(named).with_suffix('.svg')})\n\n"


def load(kind: str) -> ModuleType:
    """Returns the module of one kind."""
    return importlib.import_module(f"{__name__}.{kind}")


def read(file: Path) -> Any:
    """Returns the content of a result file. Raises InputError where it is not there or not JSON."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is not a result file that `--record` wrote: {error}.") from error
