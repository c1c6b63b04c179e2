"""Whether an engine computes its graph, alone and in batches, how accurate it is, and what of it runs in int8."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.bench.gpu_test.samples import at_points
from pipeline.judge import parity, verdict
from pipeline.judge.evaluation import first, one_by_one

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.backends import Engine
    from pipeline.bench.gpu_test.opened import Case

    Array = NDArray[Any]
    Arrays = dict[str, Array]

SHOWN = 20  # names of Q/DQ layers that a row lists


def judge(case: Case, variant: Mapping[str, Any], engine: Engine, layers: Path | None) -> dict[str, Any]:
    """Returns what a row says of an engine: parity, closeness to the float model, batches, accuracy, inspector.

    layers: a folder for the whole of what the inspector tells, None for the sums alone.
    """
    samples = case.samples
    found = one_by_one(engine, samples.inputs, "running the engine")
    alone = at_points(first(found, samples.checked))
    close = closeness(samples.floats, alone)
    return {
        "parity": parities(case, variant, alone),
        "float": close,
        "batches": [batch(case, engine, alone, size) for size in case.batches],
        "accuracy": accuracy(case, found, close["sqnr_db"]) if samples.predictions is not None else None,
        "inspector": [inspector(case, variant, engine, size, layers) for size in sorted({1, max(case.batches)})],
    }


def parities(case: Case, variant: Mapping[str, Any], alone: Arrays) -> list[dict[str, Any]]:
    """Returns a row an output: an int8 engine against its QDQ graph as ONNX Runtime computes it, a float engine against
    the float model.
    """
    floats = case.samples.floats
    expected = floats if variant["precision"] != "int8" else case.computed(variant["graph"])
    return [p.to_json() for p in parity.compare(expected, alone, limits(variant, expected, floats))]


def limits(variant: Mapping[str, Any], expected: Arrays, floats: Arrays) -> dict[str, parity.Limit]:
    """Returns how far an engine may be from what is expected of it, by output."""
    if variant["precision"] != "int8":
        return {name: parity.Limit.of_float(variant["precision"]) for name in expected}
    return {name: parity.Limit.of_quantization(x, floats[name]) for name, x in expected.items()}


def closeness(floats: Arrays, alone: Arrays) -> dict[str, float]:
    """Returns {cosine, sqnr_db} of an engine's outputs to the float model's: the least cosine of any sample."""
    cosine = min(parity.cosine(floats[name], alone[name]) for name in floats)
    return {"cosine": cosine, "sqnr_db": parity.sqnr_db_of_all(floats, alone)}


def batch(case: Case, engine: Engine, alone: Arrays, size: int) -> dict[str, Any]:
    """Returns {batch, cosine, max_abs_diff, fault}: samples of one batch against the same samples alone.

    Float SegFormer engines of TensorRT were wrong from the second sample on and said nothing (NVIDIA/TensorRT#4853).
    """
    feeds, places = case.samples.batch(size)
    together = at_points(engine(feeds))
    before = {name: x[places] for name, x in case.samples.floats.items()}
    expected = {name: x[places] for name, x in alone.items()}
    apart = {name: parity.Limit.of_quantization(x, before[name]) for name, x in expected.items()}
    found = parity.compare(expected, together, apart)
    faults = [f"{p.output} differs from the same samples alone: {p.reason}" for p in found if p.reason]
    return {
        "batch": size,
        "cosine": min(p.cosine for p in found),
        "max_abs_diff": max(p.max_abs_diff for p in found),
        "fault": "; ".join(faults) or None,
    }


def accuracy(case: Case, found: Arrays, sqnr_db: float) -> dict[str, Any]:
    """Returns {metric, float, engine, relative_drop, agreement, samples, missed}: the budgets that are missed."""
    task, labels, before = case.task, case.samples.labels, case.samples.predictions
    after = task.predict(found, labels)
    assert before is not None
    float_score, engine_score = (score(case, predictions) for predictions in (before, after))
    section = {
        "metric": task.METRIC,
        "float": float_score,
        "engine": engine_score,
        "relative_drop": verdict.relative_drop(float_score, engine_score),
        "agreement": float(task.agreement(before, after)),
        "sqnr_db": sqnr_db,
        "samples": len(before),
    }
    return {**section, "missed": verdict.accuracy_reasons(section, verdict.budgets(case.budgets, task))}


def score(case: Case, predictions: Any) -> float:
    """Returns the task's metric."""
    return float(case.task.score(predictions, case.samples.labels))


def inspector(case: Case, variant: Mapping[str, Any], engine: Engine, size: int, layers: Path | None) -> dict[str, Any]:
    """Returns the sums of the engine inspector's report at one batch size."""
    report = engine.precision_report(case.samples.batch(size)[0])
    if layers is not None:
        layers.mkdir(parents=True, exist_ok=True)
        path = layers / f"{case.name}.{variant['name']}.{size}.json"
        path.write_text(json.dumps(report), encoding="utf-8")
    sums = ("int8_ops", "float_ops", "unknown_ops", "int8_flop_share", "unknown_flop_share")
    return {
        "batch": size,
        **{key: report[key] for key in sums},
        "unfused": len(report["quantize_layers"]),
        "unfused_names": report["quantize_layers"][:SHOWN],
        "reformats": report["reformats"],
    }
