"""The report's comparisons of predictions: accuracy on labels, every batch size against single samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.judge import bootstrap, parity, verdict

if TYPE_CHECKING:
    from pipeline.backends import Array
    from pipeline.judge.evaluation import Reference
    from pipeline.tasks import Task


def accuracy(
    task: Task, reference: Reference, found: Mapping[str, Array], *, proof: bool = False
) -> tuple[dict[str, Any], Any, Any]:
    """Returns the `accuracy` section, the engine's predictions and the float model's.

    proof: with what the samples can prove, which a verdict needs and a comparison of candidates does not.
    """
    labels = reference.labels
    float_predictions = task.predict(reference.outputs, labels)
    predictions = task.predict(dict(found), labels)
    # without labels of its own, the float model is the truth
    labels = {**labels, **task.reference_labels(reference.outputs, labels)}
    tallies = task.tally(float_predictions, labels), task.tally(predictions, labels)
    before, after = (bootstrap.score(task, tally) for tally in tallies)
    section = {
        "metric": task.METRIC,
        "float": before,
        "engine": after,
        "drop": before - after,
        "relative_drop": verdict.relative_drop(before, after),
        "agreement": task.agreement(float_predictions, predictions),
        "sqnr_db": parity.sqnr_db_of_all(task.judged(reference.outputs, labels), task.judged(dict(found), labels)),
        "samples": len(predictions),
    }
    per_sample = [bootstrap.metric(task, tally).tolist() for tally in tallies]
    section["per_sample"] = dict(zip(("float", "engine"), per_sample, strict=True))
    first, second = (task.per_class(tally, labels) for tally in tallies)
    classes = dict.fromkeys([*first, *second])  # a class can occur in one model's predictions alone
    if classes:
        section["per_class"] = [{"name": n, "float": first.get(n), "engine": second.get(n)} for n in classes]
    if proof:
        section |= what_it_proves(task, labels, float_predictions, *tallies)
    return section, predictions, float_predictions


def what_it_proves(
    task: Task, labels: dict[str, Any], float_predictions: Any, before: Array, after: Array
) -> dict[str, Any]:
    """Returns the keys of the `accuracy` section that say what these samples can prove of an engine.

    before, after: the tallies of the float model and of the engine.
    """
    return {
        "drop_interval": bootstrap.drop_interval(task, before, after),
        "chance": bootstrap.above_chance(task, before, task.chance(float_predictions, labels, before)),
        "unjudgeable": task.unjudgeable(labels) or _same_answer(float_predictions),
        "classes": len(labels.get("class_names", ())),
        "unseen": task.unseen(labels),
    }


def _same_answer(predictions: Any) -> str | None:
    """Returns that a model answers the same to all samples, None where it does not, or there is one sample."""
    import numpy as np

    first, *others = predictions
    same = others and all(np.array_equal(first, other) for other in others)
    return f"the float model answers all {len(predictions)} samples the same" if same else None


def batch_rows(
    task: Task,
    several: Reference,
    engine: Callable[[dict[str, Array]], dict[str, Array]],
    alone: Mapping[str, Array],
    sizes: Sequence[int],
    limits: Mapping[str, parity.Limit],
) -> list[dict[str, Any]]:
    """Returns one row per batch size.

    several: samples and the float model's outputs of them. alone: the engine's, one at a time; a batch that gives
    something else than its samples alone is a fault, which no average over samples may hide. limits: of rounding.
    """
    rows = []
    for size in sizes:
        part = several.first(size)
        found = engine(part.inputs)
        before = part.outputs
        parities = parity.compare({n: x[:size] for n, x in alone.items()}, found, limits)
        faults = [f"{p.output} differs from the same samples alone: {p.reason}" for p in parities if p.reason]
        rows.append(
            {
                "batch": size,
                "max_abs_diff": max(parity.max_abs_diff(before[n], found[n]) for n in before),
                "cosine": min(parity.cosine(before[n], found[n]) for n in before),
                "agreement": task.agreement(task.predict(before, part.labels), task.predict(found, part.labels)),
                "fault": "; ".join(faults) or None,
            }
        )
    return rows


def finite(value: Any) -> Any:
    """Returns a JSON-like value in plain Python types, with None for numbers that JSON cannot write."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
