"""The placements that `place` measured: the user's own, before those of the project.

A backend has one file in each of two folders, PROJECT, which is package data, and `user_folder()`:

    {"<family>": {"<class>": {"kinds": ["linear", …], "measured": {"command": …, "date": …, "cpu": …, …}}, …}, …}
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import families
from pipeline.backends._policy import KINDS, Policy
from pipeline.errors import InputError, near_names
from pipeline.files import write_atomic
from pipeline.measure import processor

PROJECT = Path(__file__).parents[1] / "backends" / "placements"
Content = dict[str, dict[str, dict[str, Any]]]  # {family: {class: {kinds, measured}}}


@dataclass(frozen=True)
class Entry:
    """What is stored for a family on a backend and class of processors, and in which file."""

    policy: Policy
    file: Path


def user_folder() -> Path:
    """Returns where `place` stores placements: int8-pipeline/placements in $XDG_CONFIG_HOME, by default ~/.config."""
    root = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (root if root.is_absolute() else Path.home() / ".config") / "int8-pipeline" / "placements"


def entries(backend: str, family: str) -> dict[str, Entry]:
    """Returns {class: entry}, the user's if both folders have the class. Raises InputError like `read`."""
    return {
        name: Entry(Policy(frozenset(entry["kinds"])), _file(folder, backend))
        for folder in (PROJECT, user_folder())
        for name, entry in read(folder, backend).get(family, {}).items()
    }


def read(folder: Path, backend: str) -> Content:
    """Returns the checked content of a backend's file, {} if there is no file.

    Raises InputError naming everything in it that cannot be used.
    """
    path = _file(folder, backend)
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); `place` writes it.") from error
    faults = _faults(content)
    if faults:
        listed = "\n".join(f"  {fault}" for fault in faults)
        raise InputError(f"the stored placements in {path} cannot be used:\n{listed}")
    return content  # type: ignore[no-any-return]


def store(
    folder: Path, backend: str, family: str, processor_class: str, policy: Policy, measured: Mapping[str, Any]
) -> Path:
    """Returns the backend's file after storing `policy` as the family's default on a class; other entries stay.

    Raises InputError for a file that cannot be written, and for the project's own outside a source checkout.
    """
    path = _file(folder, backend)
    if folder == PROJECT and not (PROJECT.parents[2] / "pyproject.toml").is_file():
        raise InputError(
            f"{path} belongs to an installed package: the project's own placements are changed in a source checkout. "
            "Without --project the placement is yours."
        )
    content = read(folder, backend)
    entry = {"kinds": in_order(policy.kinds), "measured": dict(measured)}
    content[family] = dict(sorted({**content.get(family, {}), processor_class: entry}.items()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, (json.dumps(dict(sorted(content.items())), indent=1) + "\n").encode())
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror or error}): the placement is not stored. Set XDG_CONFIG_HOME "
            "to a folder that you may write to, or give --no-store."
        ) from error
    return path


def in_order(kinds: Iterable[str]) -> list[str]:
    """Returns kinds in the order of KINDS."""
    return sorted(kinds, key=KINDS.index)


def _file(folder: Path, backend: str) -> Path:
    return folder / f"{backend}.json"


def _faults(content: Any) -> list[str]:
    """Returns one sentence per fault in a file's content."""
    if not isinstance(content, dict):
        return [f"an object of families is expected, found {type(content).__name__}."]
    faults = []
    for family, classes in content.items():
        if family not in families.names():
            faults.append(f"unknown model {family!r}.{near_names(family, families.names())}")
        elif not isinstance(classes, dict):
            faults.append(f"{family}: an object of processor classes is expected, found {_outline(classes)}.")
        else:
            for name, entry in classes.items():
                faults += _entry_faults(family, name, entry)
    return faults


def _entry_faults(family: str, name: str, entry: Any) -> list[str]:
    """Returns one sentence per fault in the entry of one class."""
    where = f"{family}, {name}"
    if name not in processor.CLASSES:
        return [f"{family}: unknown processor class {name!r}.{near_names(name, processor.CLASSES)}"]
    if not isinstance(entry, dict) or set(entry) != {"kinds", "measured"}:
        return [f"{where}: an object with 'kinds' and 'measured' is expected, found {_outline(entry)}."]
    if not isinstance(entry["kinds"], list) or not entry["kinds"]:
        return [f"{where}: 'kinds' must be a list of at least one of {', '.join(KINDS)}."]
    unknown = [kind for kind in entry["kinds"] if kind not in KINDS]
    return [f"{where}: unknown kind {kind!r}.{near_names(str(kind), KINDS)}" for kind in unknown]


def _outline(entry: Any) -> str:
    return f"an object with {', '.join(map(repr, entry)) or 'nothing'}" if isinstance(entry, dict) else repr(entry)
