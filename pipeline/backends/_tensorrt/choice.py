"""PRECISION=auto: int8, fp16 and fp32 plans of one model, and which of them ships."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.backends._tensorrt.plan import NOTE, PLAN
from pipeline.errors import EngineRefused
from pipeline.latency import quantile, speedup

if TYPE_CHECKING:
    from pipeline.backends import Engine

log = logging.getLogger(__name__)

PRECISIONS = ("int8", "fp16", "fp32")  # least exact first
FOLDER = "candidates"

Judge = Callable[[str, "Engine"], str | None]
Timer = Callable[[Mapping[str, "Engine"]], Mapping[str, Sequence[float]]]


@dataclass(frozen=True)
class Candidate:
    """A plan of one precision. seconds: of runs interleaved with the other candidates'. fault: why it must not ship."""

    precision: str
    seconds: tuple[float, ...]
    fault: str | None

    @property
    def median(self) -> float:
        return quantile(self.seconds, 0.5)


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """Returns the fastest candidate without a fault.

    A less exact one must be faster beyond the noise: where the 95 % interval of its speed-up holds 1, the more exact
    one is taken, so int8 never ships for luck. Raises EngineRefused, with every fault, where none is sound.
    """
    sound = [c for c in sorted(candidates, key=lambda c: PRECISIONS.index(c.precision)) if c.fault is None]
    if not sound:
        listed = "\n".join(f"  {c.precision}: {c.fault}" for c in candidates)
        raise EngineRefused(f"no precision meets the accuracy budgets:\n{listed}")
    fastest = min(sound, key=lambda c: c.median)
    equal = [c for c in sound if c is fastest or speedup(c.seconds, fastest.seconds)["low"] <= 1.0]
    return equal[-1]


def ship_fastest(
    build: Mapping[str, Callable[[Path], None]],
    load: Callable[[Path], Engine],
    judge: Judge,
    time: Timer,
    area: Path,
) -> list[dict[str, Any]]:
    """Returns a row a precision, for engine.json; `area` then holds the plan of the chosen one.

    build: by precision, writes a plan into a folder. judge: why an engine must not ship, None where it may. time:
    seconds of interleaved runs of the engines that may. A precision that TensorRT builds no plan of is a row with that
    fault. Raises EngineRefused where none may ship.
    """
    faults: dict[str, str | None] = {}
    engines: dict[str, Engine] = {}
    for precision, make in build.items():
        folder = area / FOLDER / precision
        try:
            make(folder)
            engine = load(folder)
            faults[precision] = judge(precision, engine)
        except EngineRefused as error:
            faults[precision] = str(error)
            continue
        if faults[precision] is None:
            engines[precision] = engine
    seconds = time(engines) if engines else {}
    candidates = [Candidate(p, tuple(seconds.get(p, ())), fault) for p, fault in faults.items()]
    chosen = choose(candidates)
    engines.clear()
    for file in (PLAN, NOTE):
        (area / FOLDER / chosen.precision / file).replace(area / file)
    shutil.rmtree(area / FOLDER)
    for c in candidates:
        log.info("auto: %s %s", c.precision, c.fault or f"{1e3 * c.median:.3f} ms{' ships' if c is chosen else ''}")
    return [
        {
            "precision": c.precision,
            "p50_ms": 1e3 * c.median if c.seconds else None,
            "fault": c.fault,
            "chosen": c is chosen,
        }
        for c in candidates
    ]
