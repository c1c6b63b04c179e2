"""Result files: what `--record` writes, and the README's tables are made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.files import write_atomic


def write(path: Path, document: Any) -> None:
    """Replaces the file by `document` as JSON, in one step; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(document, indent=1).encode())


def add(path: Path, table: dict[str, Any], *keys: str) -> None:
    """Adds a table to a file of several; one that is equal in all of `keys` is replaced."""
    tables = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    write(path, [t for t in tables if any(t[key] != table[key] for key in keys)] + [table])
