"""Pass or fail by the recipe's budgets and the engine's soundness: one sentence per miss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.judge.bootstrap import samples_to_decide

if TYPE_CHECKING:
    from pipeline.recipe import Budgets
    from pipeline.tasks import Task

NEAR = 0.05  # of the way from chance to a perfect answer: a float model below it has learnt nothing worth keeping
NAMED = 5  # classes


def budgets(asked: Budgets, task: Task) -> Budgets:
    """Returns the budgets with the task's own agreement where the recipe names none."""
    return asked if asked.agreement is not None else asked.model_copy(update={"agreement": task.AGREEMENT})


def reasons(report: Mapping[str, Any], budgets: Budgets) -> list[str]:
    """Returns why a report fails; empty when it passes."""
    speedup = report["latency"]["speedup"]
    misses = [*cannot_judge(report["accuracy"], budgets), *accuracy_reasons(report["accuracy"], budgets)]
    if speedup is None and budgets.speedup > 0:
        misses.append(
            f"the speed-up over float ONNX Runtime was not measured: {report['latency']['not_compared']}; the budget "
            f"is {budgets.speedup:g}, and --set budgets.speedup=0 asks for none"
        )
    elif speedup is not None and not speedup["median"] >= budgets.speedup:
        misses.append(
            f"the speed-up is {speedup['median']:.2f} (95 % interval {speedup['low']:.2f} to "
            f"{speedup['high']:.2f}); the budget is {budgets.speedup:g}"
        )
    misses += [f"the engine does not compute its graph: {fault}" for fault in report["parity"]["faults"]]
    misses += [f"batch {row['batch']}: {row['fault']}" for row in report["batches"] if row["fault"]]
    return misses


def accuracy_reasons(accuracy: Mapping[str, Any], budgets: Budgets) -> list[str]:
    """Returns the accuracy budgets that an `accuracy` section misses."""
    misses = []
    if not accuracy["relative_drop"] <= budgets.relative_drop:
        misses.append(
            f"{accuracy['metric']} drops by {accuracy['relative_drop']:.2%}, from {accuracy['float']:.4f} to "
            f"{accuracy['engine']:.4f}; the budget is {budgets.relative_drop:.2%}"
        )
    assert budgets.agreement is not None
    if not accuracy["agreement"] >= budgets.agreement:
        misses.append(
            f"a share of {accuracy['agreement']:.4f} of the predictions equals the float model's; "
            f"the budget is {budgets.agreement}"
        )
    if not accuracy["sqnr_db"] >= budgets.sqnr_db:
        misses.append(
            f"the SQNR of the outputs is {accuracy['sqnr_db']:.1f} dB to the float model's; "
            f"the budget is {budgets.sqnr_db:g} dB"
        )
    return misses


def cannot_judge(accuracy: Mapping[str, Any], budgets: Budgets) -> list[str]:
    """Returns why the metric says nothing about an engine on these samples; empty where it does, or need not.

    It says nothing where an engine that does not look at its input could be within the budget too: the float model must
    be above such an answer by more than the budget, beyond noise, and by NEAR of the way to a perfect answer.
    """
    if budgets.waives_metric:
        return []
    obstacles = []
    chance, float_ = accuracy["chance"], accuracy["float"]
    skill = (float_ - chance["score"]) / max(1 - chance["score"], 1e-12)
    if accuracy["unjudgeable"]:
        obstacles.append(f"cannot judge: {accuracy['unjudgeable']}")
    elif not (chance["low"] > budgets.relative_drop * float_ and skill >= NEAR):
        obstacles.append(
            f"cannot judge: the float model's {accuracy['metric']} of {float_:.4f} is not clearly above chance: "
            f"{chance['answer']} gets {chance['score']:.4f}, and on {accuracy['samples']} samples the difference is "
            f"{chance['low']:.4f} to {chance['high']:.4f}; the labels may be another model's, or the samples too few"
        )
    if 2 * len(accuracy["unseen"]) > accuracy["classes"]:
        obstacles.append(f"cannot judge: {unseen(accuracy['unseen'], accuracy['classes'])}")
    return obstacles


def notes(accuracy: Mapping[str, Any], budgets: Budgets) -> list[str]:
    """Returns what a reader of the verdict should know about the samples it rests on, one sentence each."""
    sentences = []
    budget = budgets.relative_drop
    low, high = (accuracy["drop_interval"][end] for end in ("relative_low", "relative_high"))
    if budgets.waives_metric:
        sentences.append(f"{accuracy['metric']} is not judged: budgets.relative_drop is {budget:g}")
    elif low <= budget < high and not cannot_judge(accuracy, budgets):
        needed = samples_to_decide(accuracy["relative_drop"], (low, high), budget, accuracy["samples"])
        enough = f"about {needed} samples would decide" if needed else "no number of samples would decide"
        sentences.append(
            f"{accuracy['samples']} samples leave open whether {accuracy['metric']} drops by more than the budget of "
            f"{budget:.2%}: {enough}"
        )
    if accuracy["unseen"]:
        sentences.append(f"{unseen(accuracy['unseen'], accuracy['classes'])}: nothing is known about the engine there")
    return sentences


def unseen(classes: Sequence[str], of: int) -> str:
    """Returns how many of the classes have no sample, and the first of them."""
    named = ", ".join(classes[:NAMED]) + (", …" if len(classes) > NAMED else "")
    return f"{len(classes)} of the {of} classes are in no label of the held-out samples ({named})"


def relative_drop(before: float, after: float) -> float:
    """Returns (before − after) / before; for a metric of zero, 0 where it did not fall and 1 where it did."""
    if before:
        return (before - after) / abs(before)
    return float(after < before)
