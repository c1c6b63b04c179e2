"""Images that have one label each: a folder per class, as torchvision's ImageFolder, or a table of paths and labels.

cats/a.jpg, cats/2024/b.png, dogs/c.jpg                  the label is the name of the folder at the top
image,label ⏎ a.jpg,cats ⏎ …                             CSV or TSV with these names in its first line
{"image": "a.jpg", "label": "cats"}                      JSON lines, or a list of such; a number is an index
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.tasks import _entries, _files, _images
from pipeline.tasks._files import shown

PATHS, LABEL = ("image", "file_name"), "label"  # columns; the second as in a data set's metadata.csv on the hub
EXPECTED = "expected a folder per class with its images, or a table of image and label"


@dataclass(frozen=True)
class Labelled:
    """The path of an image and its label; place: where the data says so, for messages."""

    path: Path
    label: Any
    place: str


def find(data: Path) -> list[Labelled]:
    """Returns the labelled images of a folder or a table. Raises InputError naming the folder, or the file and line."""
    return _of_folder(data) if data.is_dir() else _of_table(data)


def _of_folder(folder: Path) -> list[Labelled]:
    classes = [path for path in _files.listed(folder) if path.is_dir()]
    if not classes:
        raise InputError(f"data {shown(folder)} has no folders; {EXPECTED}, {_files.sample_of(folder)}.")
    found = []
    for one in classes:
        images = list(_inside(one))
        if not images:
            known, there = ", ".join(_images.SUFFIXES), _files.sample_of(one)
            raise InputError(f"{shown(one)} has no images ({known}); {there}. Remove a class that has none.")
        found += [Labelled(path, one.name, f"folder {one.name!r}") for path in images]
    return found


def _inside(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yields the image files of a folder and of those in it, in order. Raises InputError for a link that leads back."""
    here = folder.resolve()
    if here in above:
        raise InputError(f"{shown(folder)} is a link to a folder that holds it, {shown(here)}; remove it.")
    for path in _files.listed(folder):
        if path.is_dir():
            yield from _inside(path, (*above, here))
        elif path.suffix.lower() in _images.SUFFIXES:
            yield path


def _of_table(path: Path) -> list[Labelled]:
    text, name = _files.read_text(path), shown(path)
    if _entries.is_json(path, text):
        rows = [(where, _of_object(entry, f"{name} {where}")) for where, entry in _entries.of_json(path, text)]
    else:
        rows = list(_of_cells(_entries.cells(path, text), name))
    if not rows:
        raise InputError(f"data {name} has no rows.")
    return [Labelled(_located(image, path, f"{name} {where}"), label, where) for where, (image, label) in rows]


def _of_object(entry: Any, where: str) -> tuple[Any, Any]:
    held = entry if isinstance(entry, dict) else {}
    key = next((key for key in PATHS if key in held), None)
    if key is None or LABEL not in held:
        found = f"keys {', '.join(held) or 'none'}" if isinstance(entry, dict) else type(entry).__name__
        raise InputError(f'{where}: expected {{"image": "…", "label": …}}, found {found}.')
    return held[key], held[LABEL]


def _of_cells(rows: Sequence[tuple[str, list[str]]], name: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yields (where, (image, label)) of a table's rows, by the names in its first line."""
    names = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    columns = [key for key in PATHS if key in names]
    if len(columns) != 1 or names.count(columns[0]) != 1 or names.count(LABEL) != 1:
        raise InputError(
            f"data {name}: its first line must name the columns image (or file_name) and label, with commas between "
            f"them in a .csv and tabs in any other file; it names {' | '.join(names) or 'none'}."
        )
    for where, cells in rows[1:]:
        if len(cells) != len(names):
            raise InputError(
                f"data {name} {where} has {len(cells)} columns, expected {len(names)}: {', '.join(names)}."
            )
        yield where, (cells[names.index(columns[0])].strip(), cells[names.index(LABEL)].strip())


def _located(image: Any, table: Path, where: str) -> Path:
    """Returns the path of a row's image, beside its table where it is not absolute."""
    name = _files.check_filled(image, f"{where}: image")
    path = table.parent / Path(name).expanduser()
    if not path.is_file():
        raise InputError(f"{where}: there is no image {shown(path)}.")
    return path
