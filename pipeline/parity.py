"""Is the engine the graph it was built from? Its outputs against the QDQ graph computed exactly as written.

The two never agree bit for bit: a value on a rounding boundary falls to one side in one runtime and to the
other in the next, one quantization step apart, and the step travels on through the layers. In a deep graph
the roundings of the two end up unrelated; then engine and exact graph differ by twice the energy by which
quantization moved the exact graph away from the float model, and not by more. That bound tells rounding from
a fault whatever the model's sensitivity. A BERT-base with random weights has a share of 1 (and a cosine of
only 0.995) in two sound runtimes; a Concat read as unsigned int8 has a share of 150 in a graph of one layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

LARGEST_SQNR_DB = 144.5  # 20·log10(2²⁴): float32 resolves nothing finer

LIMITS = {
    "noise_share": 4.0,  # at most, of the energy that quantization moved: 2 in theory, 4 for few samples
    "cosine": 0.9,  # at least, for the worst sample: where quantization destroys all, its noise hides all
    "sqnr_db": 40.0,  # from here the engine is right whatever the share: 1 % of the signal's amplitude
    "cosine_alone": 0.995,  # decides where no float outputs are given
}


def _rows(x: Array) -> NDArray[np.float64]:
    import numpy as np

    return np.asarray(x, dtype=np.float64).reshape(len(x), -1)  # [N, everything else]


def sqnr_db(reference: Array, value: Array) -> float:
    """Returns 10·log10(Σ r² / Σ (r − v)²), at most 144.5 (float32's resolution); NaN if not finite."""
    return sqnr_db_of_all({"": reference}, {"": value})


def sqnr_db_of_all(reference: Mapping[str, Array], value: Mapping[str, Array]) -> float:
    """Returns the same over all of the reference's arrays together."""
    signal = noise = 0.0
    for name, expected in reference.items():
        r, v = _rows(expected), _rows(value[name])
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
    """Returns the smallest cosine between one sample's reference and value; NaN for values not finite.

    Two samples that are all zero are equal: 1.
    """
    import numpy as np

    r, v = _rows(reference), _rows(value)
    product = (r * v).sum(1)
    norm = np.sqrt((r**2).sum(1) * (v**2).sum(1))
    same = (r == v).all(1)
    with np.errstate(invalid="ignore"):  # infinite by infinite is not a number, and that is the answer
        values = np.where(same, 1.0, product / np.where(norm > 0, norm, np.inf))
    return float(values.min())  # NaN wins over every number


def max_abs_diff(reference: Array, value: Array) -> float:
    """Returns the largest absolute difference."""
    import numpy as np

    return float(np.abs(_rows(reference) - _rows(value)).max())


@dataclass(frozen=True)
class Parity:
    """One output of the engine against the exact graph; `reason` says why it is refused, if it is."""

    output: str
    cosine: float
    sqnr_db: float
    max_abs_diff: float
    noise_share: float | None  # None: no float outputs to measure quantization with
    reason: str | None

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "passed": self.reason is None}


def compare(
    exact: Mapping[str, Array], engine: Mapping[str, Array], original: Mapping[str, Array] | None = None
) -> list[Parity]:
    """Returns one Parity per output of the exact graph, refused ones with the reason.

    `original` are the float model's outputs for the same inputs; without them only the cosine decides.
    """
    return [_compare(name, exact[name], engine.get(name), (original or {}).get(name)) for name in exact]


def _compare(name: str, exact: Array, engine: Array | None, original: Array | None) -> Parity:
    import numpy as np

    if engine is None or engine.shape != exact.shape:
        found = "nothing" if engine is None else f"shape {engine.shape}"
        shape = f"the engine gives {found} where the graph gives shape {exact.shape}"
        return Parity(name, math.nan, math.nan, math.nan, None, shape)
    share = None
    if original is not None:
        moved = float(((_rows(exact) - _rows(original)) ** 2).sum())
        noise = float(((_rows(exact) - _rows(engine)) ** 2).sum())
        share = noise / moved if moved else None
    found_cosine = cosine(exact, engine)
    found_sqnr = sqnr_db(exact, engine)
    reason: str | None = None
    if not np.isfinite(_rows(engine)).all() and np.isfinite(_rows(exact)).all():
        reason = "the engine gives values that are not finite"
    elif not found_sqnr >= LIMITS["sqnr_db"]:
        reason = _why_not(found_cosine, share)
    return Parity(name, found_cosine, found_sqnr, max_abs_diff(exact, engine), share, reason)


def _why_not(found_cosine: float, share: float | None) -> str | None:
    """Returns what the difference has that rounding cannot explain, None when rounding explains it."""
    least = LIMITS["cosine_alone"] if share is None else LIMITS["cosine"]
    faults = []
    if not found_cosine >= least:
        faults.append(f"cosine {found_cosine:.4f} to the graph computed exactly is below {least}")
    if share is not None and share > LIMITS["noise_share"]:
        limit = f"{LIMITS['noise_share']:g}"
        faults.append(f"the difference has {share:.3g} times the energy that quantization moved, more than {limit}")
    return " and ".join(faults) or None
