"""The engines of one model, by backend and precision; the fastest one that may ship does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.backends._policy import PRECISIONS
from pipeline.errors import EngineRefused
from pipeline.measure.latency import quantile, speedup

NEAR = 1.25  # times the fastest one's median: slower ones are timed no further


@dataclass(frozen=True)
class Candidate:
    """One engine that could ship. seconds: of runs interleaved with the others'; fault: why it must not ship.

    accuracy: what it was judged by, None where it was not judged.
    """

    backend: str
    precision: str
    seconds: tuple[float, ...] = ()
    fault: str | None = None
    accuracy: Mapping[str, Any] | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        return f"{self.backend} {self.precision}"

    @property
    def median(self) -> float:
        return quantile(self.seconds, 0.5)

    def to_json(self, *, chosen: bool) -> dict[str, Any]:
        """Returns the row of engine.json and report.json."""
        return {
            "backend": self.backend,
            "precision": self.precision,
            "p50_ms": 1e3 * self.median if self.seconds else None,
            "accuracy": self.accuracy,
            "fault": self.fault,
            "chosen": chosen,
        }


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """Returns the fastest candidate without a fault.

    A less exact one must be faster beyond the noise: where the 95 % interval of its speed-up holds 1, the more exact
    one is taken, so int8 never ships by luck. Raises EngineRefused, with every fault, where all have one.
    """
    sound = [c for c in sorted(candidates, key=lambda c: PRECISIONS.index(c.precision)) if c.fault is None]
    if not sound:
        listed = "\n".join(f"  {c.label}: {c.fault}" for c in candidates)
        raise EngineRefused(f"no engine may ship:\n{listed}")
    fastest = min(sound, key=lambda c: c.median)
    return [c for c in sound if c is fastest or _as_fast(c, fastest)][-1]


def _as_fast(other: Candidate, fastest: Candidate) -> bool:
    """Returns whether a more exact candidate, timed in the same rounds, is as fast within the noise.

    One slower by more than NEAR was timed in only a few rounds, whose interval a single slow round widens.
    """
    more_exact = PRECISIONS.index(other.precision) > PRECISIONS.index(fastest.precision)
    near = other.median <= NEAR * fastest.median and len(other.seconds) == len(fastest.seconds)
    return more_exact and near and speedup(other.seconds, fastest.seconds)["low"] <= 1.0


Verdict = tuple[Mapping[str, Any] | None, str | None]  # accuracy, and why the engine must not ship


def ship(candidates: Sequence[Candidate], judge: Callable[[Candidate], Verdict]) -> tuple[Candidate, list[Candidate]]:
    """Returns the candidate that ships, and all of them with the verdicts on those that were judged.

    Only what would ship is judged: the others are slower. Raises EngineRefused where none may ship.
    """
    pool = list(candidates)
    while True:
        best = choose(pool)
        accuracy, fault = judge(best)
        judged = replace(best, accuracy=accuracy, fault=fault)
        pool[pool.index(best)] = judged
        if fault is None:
            return judged, pool


def refusal(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Returns one sentence on what was refused, why, and what ships instead; None where nothing was.

    rows: of `Candidate.to_json`.
    """
    chosen = next(row for row in rows if row["chosen"])
    refused = [row for row in rows if row["fault"]]
    slow = [row for row in rows if row["precision"] == "int8" and not row["fault"] and not row["chosen"]]
    clauses = [f"{row['backend']} {row['precision']} was refused ({row['fault']})" for row in refused]
    if chosen["precision"] != "int8":
        clauses += [f"{row['backend']} int8 takes {row['p50_ms']:.1f} ms" for row in slow]
    if not clauses:
        return None
    return f"{'; '.join(clauses)}: {chosen['backend']} {chosen['precision']} ships, {chosen['p50_ms']:.1f} ms"
