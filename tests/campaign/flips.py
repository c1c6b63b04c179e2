"""One bit of one file is flipped: what relies on the file refuses it by name, and nothing else cares.

A trial holds every byte of one small file, or many of a large one, against the digests, and tries one of these files on
`load_engine`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from campaign.bed import Bed
from pipeline.artifacts import MANIFEST, Manifest, Workspace
from pipeline.errors import ArtifactError

TRIALS = 60
SMALL, LARGE = 1 << 14, 200  # bytes of a file whose every byte is flipped; flips of a larger one


def trial(bed: Bed, rng: np.random.Generator) -> str:
    model = str(rng.choice(["bert", "segformer"]))
    folder = bed.copy(model)
    manifest = Manifest.read(folder)
    name = str(rng.choice([MANIFEST, *sorted(manifest.files)]))
    path = folder / name
    content = path.read_bytes()
    every = len(content) <= SMALL
    for place in range(len(content)) if every else rng.integers(0, len(content), LARGE):
        flip(path, content, int(place), rng)
        assert is_noticed(folder, name, manifest), f"a flipped bit in byte {place} of {name} is not seen"
    flip(path, content, int(rng.integers(len(content))), rng)
    try:
        assert bed.serves(folder) == model
        found = "load_engine does without the file"
    except ArtifactError as error:
        assert Path(name).name in str(error), f"{name} is flipped; load_engine says {error}"
        found = "load_engine refuses"
    shutil.rmtree(folder)
    return f"{'every byte' if every else f'{LARGE} bytes'} seen, and {found}"


def is_noticed(folder: Path, name: str, before: Manifest) -> bool:
    """Returns whether a file is refused; a manifest that still means the same may also be read."""
    if name != MANIFEST:
        return not Workspace(folder).intact(name)
    try:
        return Manifest.read(folder).to_json() == before.to_json()
    except ArtifactError:
        return True


def flip(path: Path, content: bytes, place: int, rng: np.random.Generator) -> None:
    changed = bytearray(content)
    changed[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(changed)
