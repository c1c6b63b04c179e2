"""The tables of README and docs/, from the files that `--record` wrote; nobody types a measured number.

A table stands between `<!-- KIND FILE -->` and `<!-- /KIND -->` and is replaced as a whole. Each kind is one file here,
found by its name:

    def section(document)           -> the Section of a result file's JSON; where that is a list, of one of its tables
    TOGETHER = True                 optional: `section` takes every table of every file, FILE,FILE
    def details(document)           optional: the Section for a terminal, where that has room for more
    def picture(document, path)     optional: draws the result to `path`, an SVG, and returns the alternative text

The picture has the result file's name, stands above the table and is drawn again with it: the two cannot disagree.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from pipeline.bench.tables._table import Section, Table
from pipeline.errors import InputError

SETTINGS = re.compile(r"(<!-- settings -->\n).*?(<!-- /settings -->)", re.DOTALL)


def kinds() -> list[str]:
    """Returns every kind of table, in alphabetical order."""
    return sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name[0] != "_")


def refresh(readme: Path) -> list[str]:
    """Returns the result files whose tables were written into `readme`. Raises InputError for a missing one."""
    used: list[str] = []

    def replace(match: re.Match[str]) -> str:
        names = match["file"].split(",")
        used.extend(names)
        files = [readme.parent / name for name in names]
        return f"{match[1]}{picture(match['kind'], files[0], names[0])}{section(match['kind'], *files)}{match[4]}"

    block = rf"(<!-- (?P<kind>{'|'.join(kinds())}) (?P<file>\S+) -->\n).*?(<!-- /(?P=kind) -->)"
    text = re.sub(block, replace, readme.read_text(encoding="utf-8"), flags=re.DOTALL)
    readme.write_text(SETTINGS.sub(lambda match: f"{match[1]}{settings()}{match[2]}", text), encoding="utf-8")
    return used


def settings() -> str:
    """Returns a row a setting of the recipe: its name, default, and what it does."""
    from pipeline.recipe import Recipe

    rows = [(f"`{name}`", default, description) for name, default, description in described(Recipe)]
    return Table(["setting", "default", ""], rows).markdown() + "\n"


def described(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, str, str]]:
    """Yields (dotted name, default, description) of every setting that has a default."""
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            yield from described(type(field.default), f"{before}{name}.")
        elif not field.is_required():
            default = field.get_default(call_default_factory=True)
            shown = json.dumps(default, default=list) if default is not None else "–"
            yield before + name, shown, (field.description or "").replace("|", "\\|")


def section(kind: str, *files: Path) -> str:
    """Returns the Markdown of one result file, or of several together."""
    results = [table for file in files for table in _listed(read(file))]
    groups = [results] if hasattr(load(kind), "TOGETHER") else [[table] for table in results]
    return "\n".join(load(kind).section(*group).markdown() for group in groups)


def shown(kind: str, document: Any) -> Section:
    """Returns one table as a terminal shows it."""
    module = load(kind)
    made: Section = (module.details if hasattr(module, "details") else module.section)(document)
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


def _listed(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [content]
