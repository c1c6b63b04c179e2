"""The engines of placements: built from one folder's artifacts, checked against their graphs, judged and timed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import backends
from pipeline.backends._policy import Policy
from pipeline.bench import timing
from pipeline.bench.place.trials import Candidate, Kinds
from pipeline.errors import EngineRefused, InputError
from pipeline.files import sha256
from pipeline.judge.evaluation import Reference
from pipeline.judge.soundness import Expected, check, faults
from pipeline.lowering import Candidates, Choice, selection

if TYPE_CHECKING:
    from pipeline.backends import Engine
    from pipeline.measure.latency import Times
    from pipeline.recipe import Recipe
    from pipeline.run import Run
    from pipeline.tasks import Task

WARMUP = 5


class Side:
    """One folder whose candidates become engines, and the samples that their parity is checked on."""

    def __init__(self, run: Run, area: Path) -> None:
        self.recipe, self.area = run.recipe, area
        self.candidates = Candidates(run)
        self.reference = Reference.read(run.workspace)

    def lower(self, choice: Choice, policy: Policy) -> str:
        """Returns the digest of a placement's graph, whose file then lies in `area`."""
        return sha256(selection.write(self.candidates.lower(choice, policy), self.area))

    def build(self, digest: str) -> Engine:
        """Returns the engine of the graph in `area`, kept in a folder of its digest; the graph is removed.

        Raises EngineRefused for one that does not compute its graph.
        """
        graph, folder = self.area / "model.qdq.onnx", self.area / digest
        backends.build(self.candidates.backend, graph, folder, self.recipe)
        engine = self.load(digest)
        fault = parity_fault(engine, graph, self.reference, self.recipe)
        graph.unlink()
        if fault:
            raise EngineRefused(f"{self.recipe.model}: {fault}")
        return engine

    def load(self, digest: str) -> Engine:
        """Returns an engine that `build` made."""
        return self.candidates.backend.load(self.area / digest, self.recipe.verification.threads)

    def keep(self, digest: str) -> None:
        """Removes every other engine."""
        for folder in (p for p in self.area.iterdir() if p.is_dir() and p.name != digest):
            shutil.rmtree(folder)


class BuiltEngines:
    """Judges on one side, times on the other; they may be the same.

    held_out: the samples that accuracy is judged on. rounds: timed runs of each engine.
    """

    def __init__(self, judged: Side, timed: Side, choice: Choice, task: Task, held_out: Reference, rounds: int) -> None:
        self._sides = (judged,) if judged is timed else (judged, timed)
        self._choice, self._task, self._held_out, self._rounds = choice, task, held_out, rounds
        self._made: dict[tuple[str, ...], Candidate] = {}
        self.feeds = timed.reference.first(1).inputs

    def make(self, kinds: Kinds) -> Candidate:
        """Returns the engine of a placement, checked and judged; one of the same graph is not built twice."""
        policy = Policy(kinds)
        try:
            self._sides[0].candidates.place(policy)
        except InputError as error:
            return Candidate(kinds, (), None, str(error))
        graphs = tuple(side.lower(self._choice, policy) for side in self._sides)
        if graphs not in self._made:
            self._made[graphs] = self._build(kinds, graphs)
        return replace(self._made[graphs], kinds=kinds)

    def _build(self, kinds: Kinds, graphs: tuple[str, ...]) -> Candidate:
        try:
            engines = [side.build(digest) for side, digest in zip(self._sides, graphs, strict=True)]
        except EngineRefused as error:
            return Candidate(kinds, graphs, None, str(error))
        return Candidate(kinds, graphs, selection.scores(self._task, self._held_out, engines[0], "scoring"))

    def time(self, candidates: Mapping[str, Candidate]) -> Times:
        """Returns the seconds of interleaved runs on one sample."""
        runners = {name: self._sides[-1].load(c.graphs[-1]) for name, c in candidates.items()}
        what = f"timing {len(runners)} placements"
        return timing.on_same(self.feeds, runners, warmup=WARMUP, runs=self._rounds, what=what)

    def keep(self, candidate: Candidate) -> None:
        """Forgets all other engines: one of BERT-base has a hundred megabytes."""
        self._made = {candidate.graphs: candidate}
        for side, digest in zip(self._sides, candidate.graphs, strict=True):
            side.keep(digest)


def parity_fault(engine: Engine, graph: Path, reference: Reference, recipe: Recipe) -> str | None:
    """Returns why the engine stage would refuse an engine, None if it would not."""
    expected = Expected.computed(graph, reference, recipe.verification.threads)
    return "; ".join(faults(check(engine, expected, reference, max(recipe.shapes.batches)))) or None
