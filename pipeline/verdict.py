"""Pass or fail: the recipe's budgets and the engine's soundness, each miss one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from pipeline.recipe import Budgets


def budgets(asked: Budgets, task: ModuleType) -> Budgets:
    """Returns the budgets with the task's own agreement where the recipe names none."""
    return asked if asked.agreement is not None else asked.model_copy(update={"agreement": task.AGREEMENT})


def reasons(report: Mapping[str, Any], budgets: Budgets) -> list[str]:
    """Returns why a report fails, nothing when it passes."""
    speedup = report["latency"]["speedup"]
    found = accuracy_reasons(report["accuracy"], budgets)
    if speedup is None and budgets.speedup > 0:
        found.append(
            f"the speed-up over float ONNX Runtime was not measured: {report['latency']['not_compared']}; the budget "
            f"is {budgets.speedup:g}, and --set budgets.speedup=0 asks for none"
        )
    elif speedup is not None and not speedup["median"] >= budgets.speedup:
        found.append(
            f"the speed-up is {speedup['median']:.2f} (95 % interval {speedup['low']:.2f} to "
            f"{speedup['high']:.2f}); the budget is {budgets.speedup:g}"
        )
    found += [f"the engine does not compute its graph: {fault}" for fault in report["parity"]["faults"]]
    found += [f"batch {row['batch']}: {row['fault']}" for row in report["batches"] if row["fault"]]
    return found


def accuracy_reasons(accuracy: Mapping[str, Any], budgets: Budgets) -> list[str]:
    """Returns the accuracy budgets that an `accuracy` section misses."""
    found = []
    if not accuracy["relative_drop"] <= budgets.relative_drop:
        found.append(
            f"{accuracy['metric']} drops by {accuracy['relative_drop']:.2%}, from {accuracy['float']:.4f} to "
            f"{accuracy['engine']:.4f}; the budget is {budgets.relative_drop:.2%}"
        )
    assert budgets.agreement is not None
    if not accuracy["agreement"] >= budgets.agreement:
        found.append(
            f"a share of {accuracy['agreement']:.4f} of the predictions equals the float model's; "
            f"the budget is {budgets.agreement}"
        )
    if not accuracy["sqnr_db"] >= budgets.sqnr_db:
        found.append(
            f"the SQNR of the outputs is {accuracy['sqnr_db']:.1f} dB to the float model's; "
            f"the budget is {budgets.sqnr_db:g} dB"
        )
    return found


def relative_drop(before: float, after: float) -> float:
    """Returns (before − after) / before; for a metric of zero, 0 where it did not fall and 1 where it did."""
    if before:
        return (before - after) / abs(before)
    return float(after < before)
