"""Is the engine the graph it was built from? Its outputs against the QDQ graph computed exactly as written.

The two never agree bit for bit: a value on a rounding boundary falls to one side in one runtime and to the other in
another, one quantization step apart, and the step travels on through the layers. How far that leads depends on the
model: in a deep graph the roundings of two sound runtimes end up unrelated, in a graph of one layer almost nothing
moves. So it is measured: the exact graph is run again with a dither of a small share of a step before every quantizer
(`pipeline.graph.dither`), and an engine may differ from the exact graph as much as these neighbours do, in the energy
of the difference and in its systematic part. Roundings go up as often as down, so they cause neither gain nor offset
in the outputs, whereas a wrong scale does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

LARGEST_SQNR_DB = 144.5  # 20·log10(2²⁴): float32 resolves nothing finer

SIGMAS = 5.0  # of what the neighbours' spread says of another neighbour: one in three million by chance
APART = 1.5  # times the neighbours' energy: a runtime rounds in other places than a dither does
FEW_FLIPS = 0.1  # of the energy that quantization moved: where a graph is small, a single flip is most of it
SYSTEMATIC = 2e-3  # gain and offset that a runtime's approximations (erf, exp, fp16 tables) may cause
LARGEST_NOISE = 0.2  # of the signal's energy: where rounding alone makes more, no engine can be judged
UNMEASURED = 4.0  # times what quantization moved, without neighbours; two unrelated roundings differ by 2
FLOAT_NOISE = {"fp32": 1e-6, "fp16": 1e-3}  # of the signal's energy: a float engine against the float model
FLOAT_SYSTEMATIC = {"fp32": 1e-3, "fp16": 1e-2}


def _rows(x: Array) -> NDArray[np.float64]:
    import numpy as np

    return np.asarray(x, dtype=np.float64).reshape(len(x), -1)  # [N, everything else]


def sqnr_db(reference: Array, value: Array) -> float:
    """Returns 10·log10(Σ r² / Σ (r − v)²), at most 144.5 (float32's resolution); NaN if not finite."""
    return sqnr_db_of_all({"": reference}, {"": value})


def sqnr_db_of_all(reference: Mapping[str, Array], value: Mapping[str, Array]) -> float:
    """Returns `sqnr_db` over all of the reference's arrays together."""
    import numpy as np

    signal = noise = 0.0
    for name, expected in reference.items():
        for row, other in zip(expected, value[name], strict=True):  # all at once would be gigabytes of float64
            r, v = np.asarray(row, dtype=np.float64), np.asarray(other, dtype=np.float64)
            signal += float((r**2).sum())
            noise += float(((r - v) ** 2).sum())
    if not math.isfinite(signal + noise):
        return math.nan
    if noise == 0:
        return LARGEST_SQNR_DB
    if signal == 0:
        return -LARGEST_SQNR_DB
    return max(-LARGEST_SQNR_DB, min(LARGEST_SQNR_DB, 10 * math.log10(signal / noise)))


def cosine(reference: Array, value: Array) -> float:
    """Returns the smallest cosine over the samples; equal ones have 1, even if all zero, and infinite values NaN."""
    import numpy as np

    r, v = _rows(reference), _rows(value)
    product = (r * v).sum(1)
    norm = np.sqrt((r**2).sum(1) * (v**2).sum(1))
    same = (r == v).all(1)
    with np.errstate(invalid="ignore"):  # infinity by infinity is NaN, as it should be
        values = np.where(same, 1.0, product / np.where(norm > 0, norm, np.inf))
    return float(values.min())  # NaN wins over every number


def max_abs_diff(reference: Array, value: Array) -> float:
    """Returns the largest absolute difference."""
    import numpy as np

    return float(np.abs(_rows(reference) - _rows(value)).max())


@dataclass(frozen=True)
class Difference:
    """The difference of a value from a reference, sample by sample [N], relative to the reference's mean sample.

    With the error e = v − r and E the mean over the samples of Σ r²: noise = Σ e² / E, gain = Σ e·r / E (0.01 where
    the value is 1 % too large), offset = mean(e) / √(mean r²).
    """

    noise: NDArray[np.float64]
    gain: NDArray[np.float64]
    offset: NDArray[np.float64]

    @classmethod
    def between(cls, reference: Array, value: Array) -> Difference:
        r, e = _rows(reference), _rows(value) - _rows(reference)
        energy = float((r**2).sum(1).mean()) or 1.0
        return cls((e**2).sum(1) / energy, (e * r).sum(1) / energy, e.mean(1) / math.sqrt(energy / r.shape[1]))


@dataclass(frozen=True)
class Limit:
    """How far rounding alone may move one output.

    noise: at most, in the samples' mean; worst: at most, in any sample; gain, offset: (low, high) of the mean.
    """

    noise: float
    worst: float
    gain: tuple[float, float] = (-math.inf, math.inf)
    offset: tuple[float, float] = (-math.inf, math.inf)

    @classmethod
    def of_neighbours(cls, exact: Array, neighbours: Sequence[Array], original: Array) -> Limit:
        """Returns the limit of an int8 engine.

        neighbours: K outputs of the dithered graph for the same N samples. original: the float model's. Their spread
        over the samples, of the logarithm of the energy, of gain and of offset, says how far the mean of another N
        samples may lie from theirs: σ·√(1/N + 1/KN).
        """
        import numpy as np

        differences = [Difference.between(exact, neighbour) for neighbour in neighbours]
        noise, gain, offset = (
            np.concatenate([getattr(d, part) for d in differences]) for part in ("noise", "gain", "offset")
        )
        moved = float(Difference.between(exact, original).noise.mean())
        floor = max(FEW_FLIPS * moved, FLOAT_NOISE["fp32"])
        mean = float(noise.mean())
        samples = len(exact)
        of_mean, of_one = math.sqrt(1 / samples + 1 / len(noise)), math.sqrt(1 + 1 / len(noise))
        spread = float(np.log(noise + floor).std(ddof=1))
        room = SYSTEMATIC + mean + SIGMAS * of_mean * np.array([gain.std(ddof=1), offset.std(ddof=1)])
        return cls(
            noise=min(LARGEST_NOISE, floor + APART * mean * math.exp(SIGMAS * of_mean * spread)),
            worst=min(LARGEST_NOISE, floor + APART * mean * math.exp(SIGMAS * of_one * spread)),
            gain=(float(gain.mean() - room[0]), float(gain.mean() + room[0])),
            offset=(float(offset.mean() - room[1]), float(offset.mean() + room[1])),
        )

    @classmethod
    def of_quantization(cls, exact: Array, original: Array) -> Limit:
        """Returns a wide limit, for an int8 engine whose graph's neighbours are not known."""
        moved = float(Difference.between(exact, original).noise.mean())
        noise = min(LARGEST_NOISE, max(UNMEASURED * moved, 1e-4))
        return cls(noise, min(LARGEST_NOISE, 2 * noise))

    @classmethod
    def of_float(cls, precision: str) -> Limit:
        """Returns the limit of a float engine against the float model."""
        noise, room = FLOAT_NOISE[precision], FLOAT_SYSTEMATIC[precision]
        return cls(noise, 10 * noise, (-room, room), (-room, room))

    def faults(self, difference: Difference) -> list[str]:
        """Returns what rounding cannot explain of a difference."""
        noise, worst = float(difference.noise.mean()), float(difference.noise.max())
        faults = []
        if not noise <= self.noise:
            faults.append(f"the difference has {noise:.2g} of the signal's energy; rounding explains {self.noise:.2g}")
        elif not worst <= self.worst:
            faults.append(
                f"one sample differs by {worst:.2g} of the signal's energy; rounding explains {self.worst:.2g}"
            )
        for what, value, (low, high) in (
            ("gain", float(difference.gain.mean()), self.gain),
            ("offset", float(difference.offset.mean()), self.offset),
        ):
            if not low <= value <= high:
                faults.append(f"a systematic {what} of {value:+.2%}; rounding explains {low:+.2%} to {high:+.2%}")
        return faults

    def to_array(self) -> NDArray[np.float64]:
        """Returns [6]: noise, worst, gain low and high, offset low and high."""
        import numpy as np

        return np.array([self.noise, self.worst, *self.gain, *self.offset])

    @classmethod
    def from_array(cls, values: Array) -> Limit:
        noise, worst, *rest = (float(x) for x in values)
        return cls(noise, worst, (rest[0], rest[1]), (rest[2], rest[3]))


@dataclass(frozen=True)
class Parity:
    """One output of the engine against the exact graph; `reason` says why it is refused, None where it is not.

    noise: the energy of the difference, relative to the signal's; at most noise_limit.
    """

    output: str
    cosine: float
    sqnr_db: float
    max_abs_diff: float
    noise: float
    noise_limit: float
    reason: str | None

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "passed": self.reason is None}


def compare(exact: Mapping[str, Array], engine: Mapping[str, Array], limits: Mapping[str, Limit]) -> list[Parity]:
    """Returns one Parity per output of the exact graph."""
    return [_compare(name, exact[name], engine.get(name), limits[name]) for name in exact]


def _compare(name: str, exact: Array, engine: Array | None, limit: Limit) -> Parity:
    import numpy as np

    if engine is None or engine.shape != exact.shape:
        given = "nothing" if engine is None else f"shape {engine.shape}"
        fault = f"the engine gives {given} where the graph gives shape {exact.shape}"
        return Parity(name, math.nan, math.nan, math.nan, math.nan, limit.noise, fault)
    difference = Difference.between(exact, engine)
    if not np.isfinite(_rows(engine)).all() and np.isfinite(_rows(exact)).all():
        reason: str | None = "the engine gives values that are not finite"
    else:
        reason = " and ".join(limit.faults(difference)) or None
    measured = (cosine(exact, engine), sqnr_db(exact, engine), max_abs_diff(exact, engine))
    return Parity(name, *measured, float(difference.noise.mean()), limit.noise, reason)
