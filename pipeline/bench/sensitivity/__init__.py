"""`sensitivity`: what every quantizer, layer and kind of operator costs in accuracy, one at a time.

    off   all quantizers are on but those of one row: what the model gains without them
    on    none is on but those of one row: what they cost by themselves

On the selection split of the recipe's data, which neither calibration nor the verdict sees, from the statistics that
calibration stored. The graph is the backend's, computed as written.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import stages
from pipeline.bench import results
from pipeline.judge.accuracy import accuracy
from pipeline.lowering import Candidates, selection
from pipeline.model import loading, samples
from pipeline.progress import track
from pipeline.recipe import Recipe
from pipeline.run import Run
from pipeline.stages.build import locked

if TYPE_CHECKING:
    import onnx

    from pipeline.judge.evaluation import Reference
    from pipeline.tasks import Task

log = logging.getLogger(__name__)

FILE = "sensitivity.json"
SAMPLES = 8
SCOPES = ("kind", "layer", "quantizer")
STORING = "store_int8_weights"  # from this pass on a dialect only writes the same numbers in another way


@dataclass(frozen=True)
class Part:
    """Quantizers that are turned together. scope: one of SCOPES; names: of a Switchboard's pairs."""

    scope: str
    name: str
    kind: str
    names: tuple[str, ...]


def run(
    recipe: Recipe,
    *,
    count: int = SAMPLES,
    record: Path | None = None,
    command: str = "",
    announce: Callable[[str], None] = log.info,
) -> dict[str, Any]:
    """Returns the table, written to <backend>/sensitivity.json row by row: a killed run goes on where it was.

    count: samples that each probe is judged on, as one batch. record: another file for the finished table. The stages
    that make candidates run first.
    """
    run = Run.of(recipe)
    with locked(run.recipe):
        stages.run_before("lower", run, announce=announce)
        begun, rows = _probed(run, count, file := run.recipe.folder / run.backend.NAME / FILE)
        table = results.document(
            command,
            run.threads,
            model=recipe.model,
            checkpoint=recipe.checkpoint_name,
            family=recipe.family,
            backend=run.backend.NAME,
            finished=False,
            **begun,
        )
        for row in rows:
            table["rows"].append(row)
            results.write(table, file)
        table["finished"] = True
        results.write(table, file, record)
    return table


def _probed(run: Run, count: int, file: Path) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """Returns what a table begins with, and the rows that are not in `file` yet, each when it was measured."""
    import onnx_ir as ir

    from pipeline.bench.sensitivity.probes import Switchboard

    candidates = Candidates(run)
    source = loading.open_source(run.recipe)
    every = samples.selection(run.with_recipe(selection.automatic(run.recipe)), source)
    reference = every.take(range(min(count, every.samples)))
    passes = list(itertools.takewhile(STORING.__ne__, run.backend.dialect(run.recipe)))
    choice = selection.choice_of(run)
    graph = ir.to_proto(candidates.lower(choice, dialect=passes).graph)
    boards = {
        base: Switchboard(ir.from_proto(graph), reference.inputs, base=base, threads=run.threads)
        for base in (True, False)
    }
    kinds = {q["name"]: str(q["kind"]) for q in candidates.quantizers}
    judge = Judge(source.task, reference)
    whole = {"int8": judge(boards[True].outputs()), "float": judge(boards[False].outputs())}
    begun = {
        "digest": digest(graph, reference),
        "calibration": choice.label,
        "samples": reference.samples,
        "metric": source.task.METRIC,
        "whole": whole,
    }
    before = earlier(file, begun)
    todo = [part for part in parts_of(boards[True].pairs, kinds) if (part.scope, part.name) not in before]

    def rows() -> Iterator[dict[str, Any]]:
        for part in track(todo, "sensitivity", len(todo)):
            off, on = (judge(boards[base].outputs(part.names)) for base in (True, False))
            named = {"scope": part.scope, "name": part.name, "kind": part.kind, "quantizers": len(part.names)}
            yield {**named, "off": off, "on": on, "gain_db": off["sqnr_db"] - whole["int8"]["sqnr_db"]}

    return {**begun, "rows": list(before.values())}, rows()


class Judge:
    """Says of outputs what a row has of them: {sqnr_db, metric, agreement}, against the float model's."""

    def __init__(self, task: Task, reference: Reference) -> None:
        self._task, self._reference = task, reference

    def __call__(self, outputs: Mapping[str, Any]) -> dict[str, float]:
        section, _, _ = accuracy(self._task, self._reference, outputs)
        return {"sqnr_db": section["sqnr_db"], "metric": section["engine"], "agreement": section["agreement"]}


def parts_of(pairs: Mapping[str, Any], kinds: Mapping[str, str]) -> list[Part]:
    """Returns every kind, layer and quantizer, each with the pairs that are turned for it.

    pairs: a Switchboard's; kinds: {quantizer: kind}. A pair that several quantizers share belongs to the first's kind
    and layer.
    """
    from pipeline.report.quantizers import split

    found: dict[tuple[str, str], list[str]] = {}
    kind_of = {name: kinds.get(pair.name, "other") for name, pair in pairs.items()}
    for name, pair in pairs.items():
        for key in (("kind", kind_of[name]), ("layer", split(pair.name)[0]), ("quantizer", name)):
            found.setdefault(key, []).append(name)
    order = sorted(found, key=lambda key: SCOPES.index(key[0]))
    return [Part(scope, name, _shared({kind_of[n] for n in found[scope, name]}), tuple(found[scope, name]))
            for scope, name in order]  # fmt: skip


def _shared(kinds: set[str]) -> str:
    return next(iter(kinds)) if len(kinds) == 1 else "several"


def digest(graph: onnx.ModelProto, reference: Reference) -> str:
    """Returns what rows must have been measured on to count: this graph, these samples."""
    found = hashlib.sha256(graph.SerializeToString(deterministic=True))
    found.update(reference.digest().encode())
    return found.hexdigest()


def earlier(file: Path, begun: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Returns the rows of an earlier run on the same graph and samples, {(scope, name): row}; of another run, none."""
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
        same = all(table[key] == begun[key] for key in ("digest", "samples"))
        return {(row["scope"], row["name"]): row for row in table["rows"]} if same else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
