"""TensorRT's timing cache on disk: kernel timings that later builds need not repeat, and for what they hold."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.files import write_atomic

log = logging.getLogger(__name__)

FOLDER = "int8-export-pipeline"


@dataclass(frozen=True)
class Key:
    """What timings depend on: they hold for exactly this TensorRT, GPU and dialect (its builder flags)."""

    tensorrt: str
    gpu: str
    compute_capability: str
    dialect: str

    def __str__(self) -> str:
        return f"TensorRT {self.tensorrt}, {self.gpu} ({self.compute_capability}), dialect {self.dialect}"


def path_for(key: Key) -> Path:
    """Returns the cache file of a dialect: $XDG_CACHE_HOME/int8-export-pipeline/, by default under ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / FOLDER / f"tensorrt-{key.dialect}.timing"


def read(path: Path, key: Key) -> bytes:
    """Returns the timings of a file made for `key`, empty where there are none; a file for another key is ignored."""
    try:
        header, _, content = path.read_bytes().partition(b"\n")
        found = Key(**json.loads(header))
    except FileNotFoundError:
        return b""
    except (OSError, ValueError, TypeError) as error:
        log.warning("the timing cache %s cannot be read (%s) and is ignored", path, error)
        return b""
    if found != key:
        log.warning("the timing cache %s is for %s and is ignored: this is %s", path, found, key)
        return b""
    return content


def write(path: Path, key: Key, content: bytes) -> None:
    """Writes timings with the key in the first line; a folder that cannot be written costs later builds time, no more.

    A cache for another key is replaced.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(asdict(key)).encode() + b"\n" + content)
    except OSError as error:
        log.warning("the timing cache %s cannot be written (%s): the next build times every kernel again", path, error)
