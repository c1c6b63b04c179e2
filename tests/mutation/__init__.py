"""Tests that can fail: the core with one fault put in at a time, held against the unit tests of its room.

    python -m mutation [FILE …] [--minutes M] [--sample N] [--again] [--record results/mutation.json]

A mutant is the source of one module with one change (`operators`): cosmic-ray's, which replace operators, comparisons,
numbers and keywords, and some of ours, which it has not. It is killed where a test fails. Each runs in a process of its
own, forked from one that has torch and the runtimes in memory already, against the tests that reach the changed
statement, the likeliest first (`judges`), and never against whole builds.

What was found stays in `.mutation/`: a call goes on where the last one ended, tries again what survived where its tests
have changed, and forgets a module that has. `--sample N` takes N mutants of a module, drawn by a seed, for all of them.
Survivors that are no faults, as nothing can tell them from the source, stand in `equal` with the reason; `hand` holds
faults of kinds that need a hand to be put in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from helpers import ROOT

WORK = ROOT / ".mutation"

# what is mutated, of some modules single functions only -> the tests that judge it
SCOPE: dict[str, tuple[str, ...]] = {
    "calibration/*.py": ("tests/calibration",),
    "pipeline/judge/parity.py": ("tests/judge",),
    "pipeline/judge/verdict.py": ("tests/judge",),
    "pipeline/judge/soundness.py": ("tests/judge",),
    "pipeline/judge/accuracy.py": ("tests/judge",),
    "pipeline/judge/bootstrap.py": ("tests/judge",),
    "pipeline/judge/evaluation.py": ("tests/judge",),
    "pipeline/report/baseline.py": ("tests/report/test_baseline.py",),
    "pipeline/lint/rules/*.py": ("tests/lint",),
    "pipeline/artifacts/*.py": ("tests/artifacts",),
    "pipeline/stages/__init__.py::_reasons": ("tests/artifacts",),
    "pipeline/stages/code.py": ("tests/stages/test_code.py",),
    "pipeline/lowering/selection.py": ("tests/lowering/test_selection.py",),
    "pipeline/graph/unsigned.py": ("tests/graph/test_graph.py", "tests/graph/test_unsigned.py"),
    "pipeline/graph/walks.py": ("tests/graph/test_graph.py", "tests/graph/test_walks.py"),
    "pipeline/tasks/question_answering.py::predict,_best_span": ("tests/tasks/test_question_answering.py",),
}


@dataclass(frozen=True)
class Scope:
    """A module, as a path from the project's root, the functions of it that are meant (none: all of it), its judges."""

    module: str
    functions: tuple[str, ...]
    judges: tuple[str, ...]


def scopes() -> list[Scope]:
    """Returns what is mutated, module by module."""
    found = []
    for pattern, judges in SCOPE.items():
        files, _, functions = pattern.partition("::")
        for file in sorted(ROOT.glob(files)):
            named = tuple(functions.split(",")) if functions else ()
            found.append(Scope(file.relative_to(ROOT).as_posix(), named, judges))
    return found


def path(module: str) -> Path:
    return ROOT / module
