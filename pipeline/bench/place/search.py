"""A greedy search over placements: toggle one group of quantizers at a time, go on from the fastest within the budgets.

round:  current placement -> every placement one toggle away -> all timed in turns with the current one
        -> the fastest of those within the accuracy budgets, if it is faster again when timed alone with the current
        -> the next round's current placement; the search ends where nothing is taken
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.bench.place.trials import CURRENT, Candidate, Engines, Kinds, Move, Trial, decide
from pipeline.errors import EngineRefused
from pipeline.lowering.stored import in_order
from pipeline.measure.latency import Times, speedup, summary

if TYPE_CHECKING:
    from pipeline.recipe import Budgets

log = logging.getLogger(__name__)

NOT_SEARCHED = ("embedding",)  # weights alone: smaller, no faster


def moves(quantizers: Sequence[Mapping[str, Any]]) -> list[Move]:
    """Returns what the search toggles: every kind that occurs, and the kinds that serve one operator together.

    An addition with one int8 input may be slower than with none where one with two is faster.
    """
    sites: dict[str, set[str]] = {}
    for quantizer in quantizers:
        if quantizer["kind"] not in NOT_SEARCHED:
            sites.setdefault(quantizer["site"], set()).add(quantizer["kind"])
    alone = {(kind,) for kinds in sites.values() for kind in kinds}
    together = {tuple(in_order(kinds)) for kinds in sites.values()}
    return [*((kind,) for kind in in_order(kind for (kind,) in alone)), *sorted(together - alone)]


def search(start: Kinds, moves: Sequence[Move], engines: Engines, limits: Budgets) -> tuple[Candidate, list[Trial]]:
    """Returns the placement that no toggle makes faster within the budgets, and every trial.

    Where the start misses the budgets, meeting them comes before speed. Raises EngineRefused for a start that is
    refused itself.
    """
    best = engines.make(start)
    if best.fault is not None:
        raise EngineRefused(
            f"the search cannot start from the default placement ({', '.join(in_order(start))}): {best.fault}"
        )
    trials = [Trial(0, (), best, "where the search starts")]
    before = {start}  # never gone back to: noise could turn in circles
    for number in itertools.count(1):
        found = tried(number, best, moves, before, engines)
        times = engines.time({CURRENT: best, **{t.label: t.candidate for t in found if not t.why}})
        if number == 1:
            trials = [replace(trials[0], latency=summary(times[CURRENT]))]
        found = decide(best, [trial if trial.why else timed(trial, times) for trial in found], engines, limits)
        trials += found
        taken = [trial for trial in found if trial.taken]
        if not taken:
            break
        best = taken[0].candidate
        log.info("place: round %d takes %s", number, taken[0].label)
        before.add(best.kinds)
        engines.keep(best)
    return best, trials


def tried(number: int, best: Candidate, moves: Sequence[Move], before: set[Kinds], engines: Engines) -> list[Trial]:
    """Returns a trial per toggle; one that has a reason already is refused, or the same graph as another."""
    trials, graphs = [], {best.graphs: CURRENT}
    for move in moves:
        kinds = toggled(best.kinds, move, moves)
        if kinds is None or kinds in before:
            continue
        trial = Trial(number, move, engines.make(kinds))
        if trial.candidate.fault is not None:
            trial = replace(trial, why=f"refused: {trial.candidate.fault}")
        elif trial.candidate.graphs in graphs:
            trial = replace(trial, why=f"the same graph as {graphs[trial.candidate.graphs]}")
        else:
            graphs[trial.candidate.graphs] = trial.label
        log.info("place: round %d, %s%s", number, trial.label, f": {trial.why}" if trial.why else "")
        trials.append(trial)
    return trials


def timed(trial: Trial, times: Times) -> Trial:
    """Returns the trial with its latency and its speed-up over the current placement, which ran in turns with it."""
    seconds = times[trial.label]
    return replace(trial, latency=summary(seconds), speedup=speedup(times[CURRENT], seconds))


def toggled(kinds: Kinds, move: Move, moves: Sequence[Move]) -> Kinds | None:
    """Returns the placement after a toggle; None for a move of kinds in different states, or if nothing were left."""
    on = kinds.intersection(move)
    if on and on != set(move):
        return None
    after = kinds.symmetric_difference(move)
    return after if any(after.intersection(m) for m in moves) else None
