"""What code a stage's artifacts depend on: its module and everything that it imports, found in the source."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from pipeline.files import digest_of, sha256

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pipeline", "calibration")  # what else is imported has a version
FRAMEWORK = "pipeline.stages"  # what runs the stages decides nothing of what they make
DRAWN = "*.jinja"  # a package's templates change with its code


def code_digest(module: str, of_file: Callable[[Path], str] = sha256) -> str:
    """Returns a digest of the source of a module and of all that it imports, wherever in the source the import stands.

    A module that is looked up by name (`import_module(f"pipeline.tasks.{name}")`) stands for all of its package.
    of_file: gives the digest of one file's bytes.
    """
    return digest_of({path.relative_to(ROOT).as_posix(): of_file(path) for path in closure(module)})


@cache
def closure(module: str) -> tuple[Path, ...]:
    """Returns the files of a module and of everything that it imports, in order of name."""
    seen: set[Path] = set()
    waiting = _files(module)
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        if file.name == "__init__.py":
            seen |= set(file.parent.glob(DRAWN))
        waiting += [other for name in imported(file) for other in _files(name)]
    return tuple(sorted(seen))


def _files(name: str) -> list[Path]:
    """Returns the file of a module, or of what a module holds, and those of the packages around it.

    Of "package.*" every file of the package.
    """
    package, _, last = name.rpartition(".")
    if last == "*":
        return sorted(_path(package).glob("*.py"))
    parts = name.split(".")
    paths = [_path(".".join(parts[:n])) for n in range(1, len(parts) + 1)]
    found = [path / "__init__.py" for path in paths] + [path.with_suffix(".py") for path in paths]
    return [file for file in found if file.is_file() and file != _path(FRAMEWORK) / "__init__.py"]


def _path(name: str) -> Path:
    return ROOT.joinpath(*name.split("."))


@cache
def imported(file: Path) -> frozenset[str]:
    """Returns the dotted names that a file imports from this project, those for type checkers aside."""
    own = ".".join(file.parent.relative_to(ROOT).parts)
    found = _imports(ast.parse(file.read_bytes()), own)
    return frozenset(name for name in found if name.split(".")[0] in PACKAGES)


def _imports(tree: ast.AST, own: str) -> Iterator[str]:
    """Yields the names that a piece of source of the package `own` imports; `package.*` for one made of a name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.JoinedStr):
            text = "".join(_text(part, own) for part in node.values)
            if text.endswith(".*"):
                yield text
        yield from _imports(node, own)


def _text(part: ast.expr, own: str) -> str:
    """Returns a part of an f-string: its text, the package for `__name__`, and * for any other value."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    is_own = isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name) and part.value.id == "__name__"
    return own if is_own else "*"
