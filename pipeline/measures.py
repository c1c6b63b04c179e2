"""The report's comparisons of predictions: accuracy on labels, every batch size against single samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pipeline import parity, verdict
from pipeline.evaluation import Reference

if TYPE_CHECKING:
    from pipeline.backends import Array


def accuracy(task: ModuleType, reference: Reference, found: Mapping[str, Array]) -> tuple[dict[str, Any], Any, Any]:
    """Returns the `accuracy` section, the engine's predictions and the float model's."""
    labels = reference.labels
    float_predictions = task.predict(reference.outputs, labels)
    predictions = task.predict(dict(found), labels)
    if hasattr(task, "reference_labels"):  # without labels of its own, the float model is the truth
        labels = {**labels, **task.reference_labels(float_predictions)}
    before, after = task.score(float_predictions, labels), task.score(predictions, labels)
    section = {
        "metric": task.METRIC,
        "float": before,
        "engine": after,
        "drop": before - after,
        "relative_drop": verdict.relative_drop(before, after),
        "agreement": task.agreement(float_predictions, predictions),
        "sqnr_db": parity.sqnr_db_of_all(judged(task, reference.outputs, labels), judged(task, found, labels)),
        "samples": len(predictions),
    }
    if hasattr(task, "per_class"):
        first, second = task.per_class(float_predictions, labels), task.per_class(predictions, labels)
        classes = dict.fromkeys([*first, *second])  # a class can occur in one model's predictions alone
        section["per_class"] = [{"name": n, "float": first.get(n), "engine": second.get(n)} for n in classes]
    if hasattr(task, "per_sample"):
        section["per_sample"] = {
            "float": list(task.per_sample(float_predictions, labels)),
            "engine": list(task.per_sample(predictions, labels)),
        }
    return section, predictions, float_predictions


def judged(task: ModuleType, outputs: Mapping[str, Array], labels: Mapping[str, Array]) -> Mapping[str, Array]:
    """Returns the part of the outputs that predictions depend on: what a model says of padding is no signal."""
    return task.judged(outputs, labels) if hasattr(task, "judged") else outputs


def batch_rows(
    task: ModuleType,
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
