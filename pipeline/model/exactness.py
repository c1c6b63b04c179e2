"""Does a rewritten model still compute what its checkpoint computes, as far as float32 can tell?

Two float32 models of one function differ by rounding. How much depends on the checkpoint: in some, large values cancel
and leave little of 24 bits. So a difference that rounding does not usually make is held against what the checkpoint's
own float32 outputs are off from the same model in float64, which has 53 bits (IEEE 754-2019, table 3.5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pipeline.model import loading

if TYPE_CHECKING:
    from torch import nn

Arrays = Mapping[str, np.ndarray]

EXACT = 1e-4  # largest difference, relative to the largest output, that needs no other proof: rounding over the depth
# Times as far from float64 as the checkpoint's own float32 may another order of the same sums be. Both are of one size;
# the campaign holds its random checkpoints, some of whose large weights cancel, to it.
LOSS = 4.0
VALUES = 32  # of every output, at least, that both are compared on: the error of a few is a matter of luck
TINY = 1e-30  # in place of the largest value of an output that is 0 throughout


@dataclass(frozen=True)
class Own:
    """The checkpoint's own model, in float32 and in float64, for as many samples as `samples_for` says.

    load: gives the float32 model, a new one at each call.
    """

    load: Callable[[], nn.Module]
    inputs: dict[str, np.ndarray]
    outputs: tuple[str, ...]

    @cached_property
    def answers(self) -> tuple[Arrays, Arrays]:
        """Its outputs in float32, and those of the same weights in float64."""
        model = self.load()
        single = loading.run_torch(model, self.inputs, self.outputs)
        wide = {name: x.astype(np.float64) if x.dtype.kind == "f" else x for name, x in self.inputs.items()}
        return single, loading.run_torch(model.double(), wide, self.outputs)


@dataclass(frozen=True)
class Difference:
    """How far float32 outputs are from others, the worst output counting, `relative` to its largest value.

    float32, rewritten: how far the checkpoint's own outputs and the rewritten model's are from the checkpoint's in
    float64, relative too; None where `relative` alone proves them equal.
    """

    max_abs_diff: float
    relative: float
    float32: float | None = None
    rewritten: float | None = None

    @property
    def is_rounding(self) -> bool:
        """Whether float32 explains the difference; never for NaN."""
        if self.float32 is None or self.rewritten is None:
            return self.relative <= EXACT
        return self.rewritten <= LOSS * self.float32

    def to_json(self) -> dict[str, float]:
        return {name: value for name, value in vars(self).items() if value is not None}

    def __str__(self) -> str:
        said = f"{self.relative:.2e} of the largest"
        if self.float32 is None:
            return said
        return f"{said}, and is {self.rewritten:.2e} from float64 where the checkpoint itself is {self.float32:.2e}"


def difference(found: Arrays, before: Arrays, own: Own, run: Callable[[dict[str, np.ndarray]], Arrays]) -> Difference:
    """Returns how far `found` is from `before`; beyond EXACT the model is held against the checkpoint's in float64.

    run: gives the outputs of the model that gave `found` for other inputs. Raises ValueError for unequal shapes.
    """
    relative = distance(found, before)
    largest = max(float(np.abs(found[name] - value).max()) for name, value in before.items())
    if relative <= EXACT or not all(np.isfinite(value).all() for value in before.values()):
        return Difference(largest, relative)
    single, exact = own.answers
    return Difference(largest, relative, distance(single, exact), distance(run(own.inputs), exact))


def distance(found: Arrays, expected: Arrays) -> float:
    """Returns the largest difference of any output, relative to that output's largest value; NaN where there is one."""
    each = []
    for name, value in expected.items():
        if found[name].shape != value.shape:
            raise ValueError(f"{name} has shape {found[name].shape}, not {value.shape}")
        each.append(np.abs(found[name] - value).max() / max(np.abs(value).max(), TINY))
    return float(np.max(each))


def samples_for(outputs: Arrays) -> int:
    """Returns how many samples give VALUES of every output. outputs: of some samples, [N, …]."""
    return max(-(-VALUES // (value.size // len(value))) for value in outputs.values())
