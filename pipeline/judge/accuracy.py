"""The report's comparisons of predictions: accuracy on labels, and every batch size with single samples."""

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
    task: Task, reference: Reference, outputs: Mapping[str, Array], *, proof: bool = False
) -> tuple[dict[str, Any], Any, Any]:
    """Returns the `accuracy` section, the engine's predictions and the float model's.

    outputs: the engine's. proof: adds what the samples can prove, for a verdict; comparing candidates needs none.
    """
    labels = reference.labels
    float_predictions = task.predict(reference.outputs, labels)
    predictions = task.predict(dict(outputs), labels)
    # where the data has no labels, the float model is the truth
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
        "sqnr_db": parity.sqnr_db_of_all(task.judged(reference.outputs, labels), task.judged(dict(outputs), labels)),
        "samples": len(predictions),
    }
    others = [task.further(found, labels) for found in (reference.outputs, dict(outputs))]
    if others[0]:
        section["further"] = [{"name": n, "float": x, "engine": others[1][n]} for n, x in others[0].items()]
    per_sample = [bootstrap.metric(task, tally).tolist() for tally in tallies]
    if any(map(any, per_sample)):  # a correlation is that of many samples and 0 of each
        section["per_sample"] = dict(zip(("float", "engine"), per_sample, strict=True))
    first, second = (task.per_class(tally, labels) for tally in tallies)
    classes = dict.fromkeys([*first, *second])  # a class can occur in only one model's predictions
    if classes:
        section["per_class"] = [{"name": n, "float": first.get(n), "engine": second.get(n)} for n in classes]
    if proof:
        section |= what_it_proves(task, labels, float_predictions, *tallies)
    return section, predictions, float_predictions


def what_it_proves(
    task: Task, labels: dict[str, Any], float_predictions: Any, before: Array, after: Array
) -> dict[str, Any]:
    """Returns the keys of the `accuracy` section that say what these samples can prove about an engine.

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
    """Returns that a model answers all samples the same, None where it does not or there is only one."""
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

    several: samples with the float model's outputs. alone: the engine's outputs of them, one at a time: a batch that
    differs by more than `limits`, those of rounding, is a fault, which no average over samples may hide.
    """
    rows = []
    for size in sizes:
        part = several.first(size)
        before, after = part.outputs, engine(part.inputs)
        parities = parity.compare({n: x[:size] for n, x in alone.items()}, after, limits)
        faults = [f"{p.output} differs from the same samples alone: {p.reason}" for p in parities if p.reason]
        rows.append(
            {
                "batch": size,
                "max_abs_diff": max(parity.max_abs_diff(before[n], after[n]) for n in before),
                "cosine": min(parity.cosine(before[n], after[n]) for n in before),
                "agreement": task.agreement(task.predict(before, part.labels), task.predict(after, part.labels)),
                "fault": "; ".join(faults) or None,
            }
        )
    return rows


def batches(
    task: Task,
    reference: Reference,
    engine: Callable[[dict[str, Array]], dict[str, Array]],
    found: Mapping[str, Array],
    sizes: Sequence[int],
    limits: Mapping[str, parity.Limit],
) -> list[dict[str, Any]]:
    """Returns the `batches` section: every size against the float model and the engine's own single samples.

    found: the engine's outputs of all samples, one at a time. A batch of more samples than there are repeats them.
    """
    several = reference.first(max(sizes))
    alone = {n: x[[i % reference.samples for i in range(several.samples)]] for n, x in found.items()}
    return batch_rows(task, several, engine, alone, sizes, limits)


def finite(value: Any) -> Any:
    """Returns a JSON-like value in plain Python types, with None for numbers that JSON cannot write."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
