"""Runs the mutants, prints those that survive, and writes the counts."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from zlib import crc32

import mutation
from mutation import WORK, Scope, fork, path
from mutation.equal import EQUAL
from mutation.judges import Judges
from mutation.mutants import Mutant, mutants
from pipeline.bench import results
from pipeline.files import sha256
from pipeline.measure import machine

PATIENCE = 20.0  # seconds that a mutant may take beyond ten times what its tests take
KILLED, TIMEOUT = "killed", "killed: it does not end"
SURVIVED, UNREACHED, SLOW = "survived", "survived: no test reaches it", "survived: its tests take too long"

_SOUND: set[str] = set()  # tests that were seen to pass alone


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m mutation", description=mutation.__doc__.splitlines()[0])
    options.add_argument("modules", nargs="*", help="paths of modules, may have *; default: all in the scope")
    options.add_argument("--minutes", type=float, default=float("inf"), help="no mutant begins later")
    options.add_argument("--sample", type=int, default=10**9, help="mutants of a module at most, drawn by the seed")
    options.add_argument("--seed", type=int, default=0, help="of the draw")
    options.add_argument("--survivors", action="store_true", help="print what survived so far, run nothing")
    options.add_argument("--record", type=Path, help="also write the counts to this file, for the docs")
    asked = options.parse_args()
    end = time.monotonic() + 60 * asked.minutes
    if not asked.survivors:
        fork.load_heavy()
    runs = []
    for scope in mutation.scopes():
        if not asked.modules or any(fnmatch(scope.module, pattern) for pattern in asked.modules):
            runs.append(Run(scope, asked.sample, asked.seed))
            if not asked.survivors:
                runs[-1].go_on(end)
            if time.monotonic() > end and not asked.record:
                break
    for run in runs:
        run.show()
    if asked.record:
        _record(runs, asked)
    return int(any(run.survivors() for run in runs))


class Run:
    """The mutants of one module and what became of them."""

    def __init__(self, scope: Scope, sample: int, seed: int) -> None:
        self.module = module = scope.module
        self._folders = scope.judges
        self.mutants = mutants(scope)
        drawn = [m for m in self.mutants if m.operator != "Hand"]
        random.Random(seed + crc32(module.encode())).shuffle(drawn)
        self.chosen = [m for m in self.mutants if m.operator == "Hand"] + drawn[:sample]
        self._file = WORK / f"{module.replace('/', '.')}.json"
        self._digest = sha256(path(module))
        self.outcomes: dict[str, list[str]] = {}  # key -> [outcome, digest of its judges, what killed it]
        if self._file.exists():
            stored = json.loads(self._file.read_text())
            self.outcomes = stored["outcomes"] if stored["digest"] == self._digest else {}

    def go_on(self, end: float) -> None:
        """Runs what was not run yet, and what survived under other tests than now."""
        if time.monotonic() > end or not any(self._is_open(m) for m in self.chosen):
            return
        beside = [scope.module for scope in mutation.scopes() if set(scope.judges) & set(self._folders)]
        judges = Judges(self._folders, beside, _say)
        killers: Counter[str] = Counter()
        start, count = time.monotonic(), Counter[str]()
        for mutant in self.chosen:
            if time.monotonic() > end:
                break
            before, seen, *_ = self.outcomes.get(mutant.key, ["", "", ""])
            tests = judges.of(self.module, mutant)
            digest = judges.digest(tests)
            if before.startswith("killed") or seen == digest or self.is_equal(mutant):
                continue
            tests.sort(key=lambda test: -killers[test])  # stable: the quickest of equals first
            outcome, killer = self._try(mutant, tests, judges.seconds(tests))
            killers[killer] += 1
            count[outcome] += 1
            self.outcomes[mutant.key] = [outcome, digest, killer]
            if not outcome.startswith("killed"):
                _say(f"{self.module}:{mutant}  [{mutant.operator}] {outcome}")
            self._file.write_text(json.dumps({"digest": self._digest, "outcomes": self.outcomes}))
        _say(f"{self.module}: {dict(count)} in {time.monotonic() - start:.0f} s")

    def _is_open(self, mutant: Mutant) -> bool:
        return not self.is_equal(mutant) and not self.outcomes.get(mutant.key, [""])[0].startswith("killed")

    def _try(self, mutant: Mutant, tests: list[str], seconds: float) -> tuple[str, str]:
        """Returns (what became of a mutant, the test that killed it)."""
        if not tests:
            return UNREACHED, ""
        log = WORK / f"{self.module.replace('/', '.')}.log"
        put_in = (path(self.module), mutant.source)
        limit = 10 * seconds + PATIENCE
        code = fork.pytest_of(tests, log, seconds=limit, mutant=put_in)
        if code == 0:
            return SURVIVED, ""
        if code == fork.TIMED_OUT:
            return (SLOW if fork.pytest_of(tests, log, seconds=limit) == fork.TIMED_OUT else TIMEOUT), ""
        lines = log.read_text(errors="replace").splitlines()
        killer = next((test for line in lines if line[:7] == "FAILED " for test in tests if test in line), "")
        self._require_sound(killer, log)
        return KILLED, killer

    def _require_sound(self, test: str, log: Path) -> None:
        """Raises SystemExit for a test that fails without a mutant too, where it runs alone."""
        if test and test not in _SOUND:
            if fork.pytest_of([test], log, seconds=PATIENCE) != 0:
                raise SystemExit(f"{test} fails alone, without a mutant:\n{log.read_text()[-3000:]}")
            _SOUND.add(test)

    def is_equal(self, mutant: Mutant) -> bool:
        return (mutant.before, mutant.after) in EQUAL.get(self.module, {})

    def survivors(self) -> list[Mutant]:
        return [
            m for m in self.chosen if self.outcomes.get(m.key, [""])[0].startswith("survived") and not self.is_equal(m)
        ]

    def counts(self) -> dict[str, Any]:
        """Returns the row of a result file; `tried` leaves out what is equal."""
        equal = [m for m in self.chosen if self.is_equal(m)]
        tried = [m for m in self.chosen if m.key in self.outcomes and m not in equal]
        survived = [f"{m.operator}: {m}" for m in self.survivors()]
        return {"module": self.module, "mutants": len(self.mutants), "equal": len(equal), "tried": len(tried),
                "killed": len(tried) - len(survived), "survived": survived}  # fmt: skip

    def show(self) -> None:
        found = self.counts()
        told = {(m.before, m.after) for m in self.mutants}
        for pair in set(EQUAL.get(self.module, {})) - told:
            _say(f"{self.module}: no mutant turns {pair[0]!r} into {pair[1]!r}, as `equal` says")
        for line in found["survived"]:
            _say(f"{self.module}: survives: {line}")
        _say(
            f"{self.module}: {found['killed']} of {found['tried']} killed, {found['equal']} equal, "
            f"{found['mutants']} in all"
        )


def _record(runs: list[Run], asked: argparse.Namespace) -> None:
    options = [f"--sample {asked.sample}", f"--seed {asked.seed}"] if asked.sample < 10**9 else []
    command = "make mutation" + (f" ARGS='{' '.join(options)}'" if options else "")
    rows = [run.counts() for run in runs]
    results.write(results.document(command, machine.usable_cores(), seed=asked.seed, modules=rows), asked.record)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
