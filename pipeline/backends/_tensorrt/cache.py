"""Where TensorRT's timing caches lie: kernel timings that later builds need not repeat. Polygraphy reads and writes."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import astuple, dataclass
from pathlib import Path

log = logging.getLogger(__name__)

FOLDER = "int8-export-pipeline"


@dataclass(frozen=True)
class Key:
    """What timings depend on: they hold for exactly this TensorRT, GPU and dialect (its builder flags)."""

    tensorrt: str
    gpu: str
    compute_capability: str
    dialect: str


def path_for(key: Key) -> Path | None:
    """Returns the cache file of a key: in $XDG_CACHE_HOME/int8-export-pipeline/, by default under ~/.cache.

    None for a folder that cannot be written, which costs later builds time, no more.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning(
            "timing caches cannot be written to %s (%s): the next build times every kernel again", folder, error
        )
        return None
    if not os.access(folder, os.W_OK):
        log.warning("timing caches cannot be written to %s: the next build times every kernel again", folder)
        return None
    return folder / f"{re.sub(r'[^A-Za-z0-9.]+', '-', '-'.join(('tensorrt', *astuple(key))))}.timing"
