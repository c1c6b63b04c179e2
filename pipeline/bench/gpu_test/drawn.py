"""Random weights that a seed makes again on another machine, so that they need not travel.

Generators of random numbers change between versions of torch and of numpy; the raw bits of PCG64 do not (NumPy
promises the streams of its bit generators), and what is made of them here is exact in float32.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

log = logging.getLogger(__name__)

SEED = 20231
BIG = 4096  # values from which on a weight is drawn, and stored outside of its graph
NOTE = "drawn.json"
UNIFORM = 12**0.5  # width of a uniform distribution of standard deviation 1


@dataclass(frozen=True)
class Draw:
    """One weight: uniform around 0 with the standard deviation `std`. index: its place among a checkpoint's draws."""

    index: int
    shape: tuple[int, ...]
    std: float

    def array(self) -> Array:
        """Returns the weight, float32."""
        count = int(np.prod(self.shape))
        bits = np.random.PCG64([SEED, self.index]).random_raw(count) >> np.uint64(40)  # 24 bits, all that float32 holds
        unit = bits.astype(np.float32) * np.float32(2**-24) - np.float32(0.5)
        return np.asarray((unit * np.float32(self.std * UNIFORM)).reshape(self.shape))

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Draw:
        return cls(int(value["index"]), tuple(value["shape"]), float(value["std"]))


def draw_checkpoint(folder: Path) -> list[Draw]:
    """Returns the draws of a checkpoint, whose large weights are replaced by them; each keeps its standard deviation.

    A checkpoint that was drawn already is left as it is.
    """
    from safetensors.numpy import load_file, save_file

    from pipeline.files import sha256

    weights, note = folder / "model.safetensors", folder / NOTE
    if note.is_file():
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["seed"] == SEED and known["sha256"] == sha256(weights):
            return [Draw.of_json(value) for value in known["draws"]]
    tensors = load_file(weights)
    names = sorted(n for n, x in tensors.items() if x.size >= BIG and x.ndim > 1 and x.dtype == np.float32)
    draws = [Draw(i, tensors[name].shape, float(np.std(tensors[name]))) for i, name in enumerate(names)]
    for name, draw in zip(names, draws, strict=True):
        tensors[name] = draw.array()
    save_file(tensors, weights, metadata={"format": "pt"})
    made = {"seed": SEED, "sha256": sha256(weights), "draws": [vars(draw) for draw in draws]}
    note.write_text(json.dumps(made, indent=1), encoding="utf-8")
    log.info("drew %d weights of %s again", len(draws), folder)
    return draws
