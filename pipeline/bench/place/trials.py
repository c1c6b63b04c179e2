"""What a search over placements tries, and which trial of a round it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.lowering.selection import rank
from pipeline.measure.latency import Times, speedup

if TYPE_CHECKING:
    from pipeline.recipe import Budgets

CURRENT = "the current placement"
WORTH = (
    1.02  # speed-up for which a group becomes int8: the rounding that costs nothing here may ruin another checkpoint
)
LEAST_GAIN_DB = 1.0  # of SQNR, for which a group is switched off that costs no time
NO_TIME = 0.98  # the least that a speed-up may be, its interval included, where the time is equal

Kinds = frozenset[str]
Move = tuple[str, ...]  # kinds that are switched together


@dataclass(frozen=True)
class Candidate:
    """The engine of one placement. scores: None for one that is refused, `fault` then says why."""

    kinds: Kinds
    graphs: tuple[str, ...]  # their digests: of the one that is judged and, where it is another, the one that is timed
    scores: Mapping[str, Any] | None
    fault: str | None = None

    @property
    def judged(self) -> Mapping[str, Any]:
        """The scores of one that is not refused."""
        assert self.scores is not None
        return self.scores


class Engines(Protocol):
    """What builds, checks, judges and times."""

    def make(self, kinds: Kinds) -> Candidate:
        """Returns the engine of a placement, checked against its graph and judged."""

    def time(self, candidates: Mapping[str, Candidate]) -> Times:
        """Returns the seconds of interleaved runs."""

    def keep(self, candidate: Candidate) -> None:
        """Forgets all other engines."""


@dataclass(frozen=True, eq=False)
class Trial:
    """One placement that was tried.

    move: what was toggled, nothing where the search starts. speedup: over the current placement of that round;
    again: the same, timed alone with it.
    """

    round: int
    move: Move
    candidate: Candidate
    why: str = ""
    taken: bool = False
    latency: Mapping[str, float] | None = None
    speedup: Mapping[str, float] | None = None
    again: Mapping[str, float] | None = None

    @property
    def off(self) -> bool:
        """Whether the toggle switched off."""
        return not set(self.move) & self.candidate.kinds

    @property
    def label(self) -> str:
        """How logs call it."""
        return f"{' + '.join(self.move)} {'off' if self.off else 'on'}"

    @property
    def interval(self) -> Mapping[str, float]:
        """The speed-up of one that was timed: median, low, high."""
        assert self.speedup is not None
        return self.speedup


def misses(scores: Mapping[str, Any], limits: Budgets) -> str | None:
    """Returns which accuracy budgets are missed, None when they are met."""
    assert limits.agreement is not None
    found = []
    if not scores["relative_drop"] <= limits.relative_drop:
        found.append(f"{scores['metric']} drops {scores['relative_drop']:.2%}, budget {limits.relative_drop:.2%}")
    if not scores["agreement"] >= limits.agreement:
        found.append(f"agreement {scores['agreement']:.4f}, budget {limits.agreement}")
    return "; ".join(found) or None


def decide(best: Candidate, trials: list[Trial], engines: Engines, limits: Budgets) -> list[Trial]:
    """Returns a round's trials with at most one of them taken, and why the others are not."""
    timed = [trial for trial in trials if trial.speedup]
    fit = [trial for trial in timed if not misses(trial.candidate.judged, limits)]
    if misses(best.judged, limits):
        changed = _towards_budgets(best, timed, fit, limits)
    else:
        changed = _faster(best, fit, engines)
        if not any(trial.taken for trial in changed):
            changed += _spared(best, fit)
    by_move = {trial.move: trial for trial in changed}
    return [by_move.get(trial.move) or replace(trial, why=trial.why or _why(trial, limits)) for trial in trials]


def _faster(best: Candidate, fit: list[Trial], engines: Engines) -> list[Trial]:
    """Returns the trials that were timed again, the fastest first, up to the one that is taken.

    The best of many noisy figures is too good: with eight candidates that are all as fast as the current one, one in
    five rounds has an interval above 1. Noise does not repeat.
    """
    changed: list[Trial] = []
    for trial in sorted(fit, key=_median, reverse=True):
        if trial.interval["low"] <= 1:
            continue
        times = engines.time({CURRENT: best, trial.label: trial.candidate})
        again = speedup(times[CURRENT], times[trial.label])
        if again["low"] <= 1:
            refusal = "faster, but not when timed again"
        elif not trial.off and again["median"] < WORTH:
            refusal = f"faster by less than {WORTH - 1:.0%} when timed again"
        else:
            return [*changed, replace(trial, again=again, why="the fastest within the budgets", taken=True)]
        changed.append(replace(trial, again=again, why=refusal))
    return changed


def _spared(best: Candidate, fit: list[Trial]) -> list[Trial]:
    """Returns the group that is best switched off, taken, if that costs no time and gains accuracy."""
    gains = {t: t.candidate.judged["sqnr_db"] - best.judged["sqnr_db"] for t in fit if t.off}
    gains = {t: db for t, db in gains.items() if db > LEAST_GAIN_DB and equally_fast(t.interval)}
    if not gains:
        return []
    choice = max(gains, key=lambda t: gains[t])
    return [replace(choice, why=f"as fast, SQNR {gains[choice]:+.1f} dB", taken=True)]


def equally_fast(interval: Mapping[str, float]) -> bool:
    """Returns whether a speed-up is 1 within its noise, and known well enough to say so."""
    return interval["low"] >= NO_TIME and interval["high"] >= 1


def _towards_budgets(best: Candidate, timed: list[Trial], fit: list[Trial], limits: Budgets) -> list[Trial]:
    """Returns the fastest trial that meets the budgets, else the one that uses least of them if that is progress."""
    if fit:
        return [replace(max(fit, key=_median), why="meets the budgets, the fastest that does", taken=True)]
    rows = [{**best.judged, "move": None}, *({**t.candidate.judged, "move": t.move} for t in timed)]
    closest = rank(rows, limits)[0]["move"]
    return [replace(t, why="closest to the budgets", taken=True) for t in timed if t.move == closest]


def _why(trial: Trial, limits: Budgets) -> str:
    """Returns why a timed trial is not taken, where nothing else is known."""
    over = misses(trial.candidate.judged, limits)
    if over or trial.interval["high"] < 1:
        return over or "slower"
    return "faster, another one more so" if trial.interval["low"] > 1 else "not faster"


def _median(trial: Trial) -> float:
    return trial.interval["median"]
