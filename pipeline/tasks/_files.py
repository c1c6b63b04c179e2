"""Checks a user's files before any parser sees them: present, of the right kind, readable, text where expected."""

from __future__ import annotations

import logging
import re
from functools import cache
from pathlib import Path

from pipeline.errors import InputError, in_short

log = logging.getLogger(__name__)

LITTER = ("thumbs.db", "desktop.ini", "__macosx")  # of file managers, beside hidden names (._x, .DS_Store)
HEAD = 64  # bytes that tell what a file is
FOREIGN = {
    b"version https://git-lfs.github.com/spec/": "a Git LFS pointer, not the file itself: run `git lfs pull`",
    b"\x1f\x8b": "gzip-compressed: unpack it (gunzip)",
    b"BZh": "bzip2-compressed: unpack it (bunzip2)",
    b"\xfd7zXZ\0": "xz-compressed: unpack it (unxz)",
    b"\x28\xb5\x2f\xfd": "zstd-compressed: unpack it (unzstd)",
    b"PK\x03\x04": "a ZIP archive (or a spreadsheet, or .npz): unpack it, or save it as text",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it",
    b"PAR1": "a Parquet file: save it as JSON lines (pandas: read_parquet(…).to_json(…, orient='records', lines=True))",
    b"ARROW1": "an Arrow file: save it as JSON lines (datasets: load_from_disk(…).to_json(…))",
    b"SQLite format 3\0": "an SQLite database: save its rows as JSON lines",
}
WIDE = {  # the longer marks first
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def located(data: str) -> Path:
    """Returns the file or folder that DATA names. Raises InputError where it is missing or unreadable."""
    try:
        path = Path(data).expanduser()
        path.stat()
    except FileNotFoundError as error:
        hub = (
            ' Data sets are not downloaded from the hub here: save one with load_dataset(…)["…"].to_json("file.jsonl").'
            if re.fullmatch(r"[\w-]+(/[\w.-]+)?", data)
            else ""
        )
        raise InputError(f"DATA={data}: there is no such file or folder.{hub}") from error
    except (OSError, RuntimeError, ValueError) as error:  # no home folder; a NUL in the name
        raise InputError(f"DATA={data!r} cannot be read: {in_short(error)}.") from error
    if not (path.is_file() or path.is_dir()):
        raise InputError(f"DATA={data} is neither a file nor a folder.")
    return path


def listed(folder: Path) -> list[Path]:
    """Returns what a folder holds, in order, without the litter of file managers."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{shown(folder)} cannot be read: {in_short(error)}.") from error
    return [path for path in paths if not path.name.startswith(".") and path.name.lower() not in LITTER]


def sample_of(folder: Path) -> str:
    """Returns a folder's first names for a message: 'it holds train/, x.tif and 7 more'."""
    names = [shown(Path(path.name)) + "/" * path.is_dir() for path in listed(folder)]
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"it holds {', '.join(names[:4])}{more}" if names else "it is empty"


def shown(path: Path) -> str:
    """Returns a path as a message prints it: on one line, whatever is in the name."""
    return str(path) if str(path).isprintable() else ascii(str(path))


def foreign(path: Path) -> str | None:
    """Returns what a file is instead of data ('gzip-compressed: unpack it'), None where its first bytes do not tell."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise InputError(f"{shown(path)} cannot be read: {in_short(error)}.") from error
    if not head:
        return "empty"
    return next((kind for mark, kind in FOREIGN.items() if head.startswith(mark)), None)


def read_text(path: Path) -> str:
    """Returns a UTF-8 file's text, without its byte order mark, with line ends as stored.

    Raises InputError naming what the file is instead.
    """
    if path.is_dir():
        raise InputError(f"data {shown(path)} is a folder where a file is expected; {sample_of(path)}.")
    if kind := foreign(path):
        raise InputError(f"data {shown(path)} is {kind}.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"data {shown(path)} cannot be read: {in_short(error)}.") from error
    wide = next((name for mark, name in WIDE.items() if content.startswith(mark)), None)
    if wide is None and b"\0" in content:
        wide = "UTF-16 without a byte order mark, or not text at all (it has zero bytes)"
    if wide is not None:
        raise InputError(f"data {shown(path)} is {wide}; convert it to UTF-8.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"data {shown(path)} cannot be read as UTF-8 text: byte 0x{content[error.start]:02x} in line {line}; "
            "convert it to UTF-8."
        ) from error
    if not text.strip():
        raise InputError(f"data {shown(path)} is empty.")
    return text


def lines(text: str) -> list[tuple[int, str]]:
    """Returns the lines that are not blank, numbered from 1.

    Only `\\n`, `\\r\\n` and `\\r` end a line: splitlines would also split inside a text, at U+2028.
    """
    return [(i, line) for i, line in enumerate(re.split(r"\r\n?|\n", text), 1) if line.strip()]


def check_text(value: object, what: str) -> str:
    """Returns a text that a tokenizer can read. Raises InputError for another type, and for half a character.

    what: its name in the message, 'context of question 7'. JSON can spell one half of a surrogate pair ("\\ud83d").
    """
    if not isinstance(value, str):
        raise InputError(f"{what} is {type(value).__name__}, not a string.")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} is damaged: character {error.start} is U+{ord(value[error.start]):04X}, a lone surrogate, "
            "half of a character that no tokenizer reads. Write the text again as UTF-8."
        ) from error
    return value


def check_filled(value: object, what: str) -> str:
    """Returns a text that is not blank. Raises InputError for a blank one, and as `check_text` does."""
    text = check_text(value, what)
    if not text.strip():
        raise InputError(f"{what} is empty.")
    return text


@cache
def say_once(sentence: str) -> None:
    """Logs a sentence once, though every stage reads the data again."""
    log.info(sentence)
