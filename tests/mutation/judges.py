"""Which tests reach which lines: those that judge a mutant."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from helpers import ROOT
from mutation import WORK, fork, path
from mutation.mutants import Mutant
from pipeline.files import digest_of, sha256

SLOWEST = 5.0  # seconds with all of its fixtures; what takes longer builds whole engines
QUICK = 0.02  # seconds
OPTIMIZED = 0x1  # of a function's code; a module's and a class's have not the flag


@dataclass
class Trace:
    """What a run of one test file reached: {test: seconds}, {module: {test: lines}}."""

    digest: str
    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, dict[str, list[int]]] = field(default_factory=dict)


class Judges:
    """The unit tests that judge some modules."""

    def __init__(self, names: tuple[str, ...], modules: list[str], say: Any) -> None:
        files = [f for name in names for f in ([path(name)] if path(name).is_file() else path(name).rglob("test_*.py"))]
        self.traces = {file: _trace(file, modules, say) for file in sorted(str(f.relative_to(ROOT)) for f in files)}

    def of(self, module: str, mutant: Mutant) -> list[str]:
        """Returns the tests that reach the mutant's statement.

        Of one that runs on import all that reach the module, and those beside them that are too quick to reach
        anything: they look at constants.
        """
        changed = range(mutant.first, mutant.last + 1)
        inside, anywhere = [], []
        for trace in self.traces.values():
            reaching = trace.lines.get(module, {})
            anywhere += [
                t for t, seconds in trace.seconds.items() if reaching and t not in reaching and seconds < QUICK
            ]
            for test, lines in reaching.items():
                anywhere.append(test)
                if any(line in changed for line in lines):
                    inside.append(test)
        seconds = {test: s for trace in self.traces.values() for test, s in trace.seconds.items()}
        found = anywhere or list(seconds) if _runs_on_import(module, mutant) else inside
        return sorted((test for test in found if seconds[test] <= SLOWEST), key=lambda test: seconds[test])

    def digest(self, tests: list[str]) -> str:
        files = {test.partition("::")[0] for test in tests}
        return digest_of([sorted(tests), sorted(self.traces[file].digest for file in files)])

    def seconds(self, tests: list[str]) -> float:
        return sum(trace.seconds.get(test, 0.0) for trace in self.traces.values() for test in tests)


def _runs_on_import(module: str, mutant: Mutant) -> bool:
    """Returns whether a statement is outside of every function's body."""
    code, nested = compile(path(module).read_text(encoding="utf-8"), module, "exec"), []
    while code is not None:
        if not code.co_flags & OPTIMIZED:
            lines = {line for _, _, line in code.co_lines() if line}
            if lines & set(range(mutant.first, mutant.last + 1)):
                return True
            nested += [constant for constant in code.co_consts if hasattr(constant, "co_lines")]
        code = nested.pop() if nested else None
    return False


def _trace(file: str, modules: list[str], say: Any) -> Trace:
    """Returns what a test file reaches, from `.mutation/` where neither it nor the modules changed."""
    helpers = sorted(path("tests/helpers").glob("*.py"))
    digest = digest_of([sha256(f) for f in (path(file), path("tests/conftest.py"), *helpers, *map(path, modules))])
    stored = WORK / f"trace-{file.replace('/', '.')}.json"
    if stored.exists():
        found = Trace(**json.loads(stored.read_text()))
        if found.digest == digest:
            return found
    WORK.mkdir(exist_ok=True)
    output, log = WORK / f"trace-{os.getpid()}.json", WORK / f"trace-{os.getpid()}.log"
    start = time.monotonic()
    code = fork.pytest_of([file], log, seconds=550, plugins=[_Plugin(modules, output)])
    if code not in (0, 5):  # 5: nothing to collect
        raise SystemExit(f"{file} fails without a mutant:\n{log.read_text()[-3000:]}")
    found = Trace(digest, **json.loads(output.read_text()))
    stored.write_text(json.dumps(vars(found)))
    say(f"traced {file} in {time.monotonic() - start:.0f} s")
    return found


class _Plugin:
    """Records the seconds of every test, with its fixtures as if it ran alone, and the lines that it runs."""

    def __init__(self, modules: list[str], output: Path) -> None:
        self._modules = {str(path(module)): module for module in modules}
        self._output = output
        self._now: str | None = None
        self._setups: dict[str, float] = {}
        self._fixtures: dict[str, list[str]] = {}
        self._calls: dict[str, float] = {}
        self._lines: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Any:
        start = time.perf_counter()
        try:
            return (yield)
        finally:
            seconds = time.perf_counter() - start
            self._setups[fixturedef.argname] = max(seconds, self._setups.get(fixturedef.argname, 0.0))

    def pytest_runtest_setup(self, item: Any) -> None:
        self._fixtures[item.nodeid] = list(item.fixturenames)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._now = nodeid
        threading.settrace(self._enter)
        sys.settrace(self._enter)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" and report.passed:
            self._calls[report.nodeid] = report.duration

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        self._now = None

    def pytest_sessionfinish(self) -> None:
        seconds = {
            test: round(call + sum(self._setups.get(name, 0.0) for name in self._fixtures[test]), 4)
            for test, call in self._calls.items()
        }
        lines = {
            module: {test: sorted(found) for test, found in tests.items() if test in seconds}
            for module, tests in self._lines.items()
        }
        self._output.write_text(json.dumps({"seconds": seconds, "lines": lines}))

    def _enter(self, frame: Any, event: str, argument: Any) -> Any:
        module = self._modules.get(frame.f_code.co_filename)
        if module is None or self._now is None or not frame.f_code.co_flags & OPTIMIZED:
            return None
        seen = self._lines[module][self._now]
        seen.add(frame.f_lineno)

        def line(frame: Any, event: str, argument: Any) -> Any:
            seen.add(frame.f_lineno)
            return line

        return line
