"""The heads that text models have: which class of transformers is for which task, and what it gives.

A class is named by its family and its head: BertForTokenClassification, RobertaForTokenClassification. So a task on
text names the heads that it takes, HEADS, and every family of text models has the tasks that there are, by one call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline import tasks

TEXT = ("batch", "sequence")


@dataclass(frozen=True)
class Head:
    """A class of transformers, its family's name left out.

    outputs: of the ONNX graph, by the names that the class gives them. problem: what kind of labels it must have (see
    `problem_of`), None for any. axes: of every input.
    """

    name: str
    outputs: tuple[str, ...]
    problem: str | None = None
    axes: tuple[str, ...] = TEXT


def heads() -> Iterator[tuple[str, Head]]:
    """Yields (task, head) of every task on text."""
    for name in tasks.names():
        for head in getattr(tasks.get(name), "HEADS", ()):  # a task on images has none
            yield name, head


def of_family(prefix: str) -> dict[str, str]:
    """Returns {class of transformers: task} for the family of this name.

    Where several tasks share a class, it is the one that takes any labels.
    """
    return {f"{prefix}{head.name}": name for name, head in heads() if head.problem is None}


def outputs() -> dict[str, tuple[str, ...]]:
    """Returns {task: outputs of its graph}."""
    return {name: head.outputs for name, head in heads()}


def axes_of(config: dict[str, Any]) -> tuple[str, ...]:
    """Returns the axes of every input of a checkpoint, by its architecture."""
    named = config.get("architectures") or []
    return next((head.axes for _, head in heads() if any(name.endswith(head.name) for name in named)), TEXT)


def for_labels(task: str, architecture: str, config: dict[str, Any]) -> str:
    """Returns the task of a checkpoint whose architecture has `task`: another one where its labels are of that kind."""
    kind = problem_of(config)
    return next((n for n, h in heads() if h.problem == kind and architecture.endswith(h.name)), task)


def problem_of(config: dict[str, Any]) -> str:
    """Returns the kind of a classifier's labels as transformers sees it: its problem_type, else by their number."""
    kind = config.get("problem_type")
    if kind is None:
        number = len(config["id2label"]) if config.get("id2label") else config.get("num_labels", 2)
        kind = "regression" if number == 1 else "single_label_classification"
    return str(kind)
