"""README tables from the files that `--record` wrote; nobody types a measured number.

A table stands between `<!-- KIND FILE -->` and `<!-- /KIND -->` and is replaced as a whole. Each kind is one file here,
found by its name:

    def section(document)     -> the Markdown of a result file, from its JSON
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from pathlib import Path

from pipeline.errors import InputError


def kinds() -> list[str]:
    """Returns every kind of table, in alphabetical order."""
    return sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name[0] != "_")


def refresh(readme: Path) -> list[str]:
    """Returns the result files whose tables were written into `readme`. Raises InputError for a missing one."""
    used: list[str] = []

    def replace(match: re.Match[str]) -> str:
        used.append(match["file"])
        return f"{match[1]}{section(match['kind'], readme.parent / match['file'])}{match[4]}"

    block = rf"(<!-- (?P<kind>{'|'.join(kinds())}) (?P<file>\S+) -->\n).*?(<!-- /(?P=kind) -->)"
    text = re.sub(block, replace, readme.read_text(encoding="utf-8"), flags=re.DOTALL)
    readme.write_text(text, encoding="utf-8")
    return used


def section(kind: str, file: Path) -> str:
    """Returns the Markdown of one result file."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is not a result file that `--record` wrote: {error}.") from error
    made: str = importlib.import_module(f"{__name__}.{kind}").section(document)
    return made
