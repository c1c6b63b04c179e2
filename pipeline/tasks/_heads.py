"""The heads that text models have: which class of transformers is for which task, and what it gives.

A class is named by its family and its head: BertForTokenClassification, RobertaForTokenClassification. So a task on
text names the heads that it takes, HEADS, and every family of text models has the tasks that there are, by one call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline import tasks
from pipeline.errors import InputError, near_names

TEXT = ("batch", "sequence")


@dataclass(frozen=True)
class Head:
    """A class of transformers, its family's name left out.

    outputs: of the ONNX graph, by the names that the class gives them; `hidden_states_*` stands for one of every layer.
    problem: what kind of labels it must have (see `problem_of`), None for any. asked: only where the recipe names the
    task. axes: of every input.
    """

    name: str
    outputs: tuple[str, ...]
    problem: str | None = None
    asked: bool = False
    axes: tuple[str, ...] = TEXT


def heads() -> Iterator[tuple[str, Head]]:
    """Yields (task, head) of every task on text."""
    for name in tasks.names():
        for head in getattr(tasks.get(name), "HEADS", ()):  # a task on images has none
            yield name, head


def of_family(prefix: str) -> dict[str, str]:
    """Returns {class of transformers: task} for the family of this name.

    Where several tasks share a class, it is the one that takes any labels and need not be asked for.
    """
    return {f"{prefix}{head.name}": name for name, head in heads() if head.problem is None and not head.asked}


def outputs() -> dict[str, tuple[str, ...]]:
    """Returns {task: outputs of its graph}."""
    return {name: head.outputs for name, head in heads()}


def axes_of(config: dict[str, Any]) -> tuple[str, ...]:
    """Returns the axes of every input of a checkpoint, by its architecture."""
    own = next(iter(config.get("architectures") or [""]))
    return next((head.axes for _, head in _of_class(own)), TEXT)


def for_checkpoint(task: str, architecture: str, config: dict[str, Any], asked: str | None) -> str:
    """Returns the task of a checkpoint whose architecture has `task`: another one where its labels are of that kind, or
    where the recipe asks for it. Raises InputError for one that the architecture is not for.
    """
    kind = problem_of(config)
    own = next((name for name, head in _of_class(architecture) if head.problem == kind), task)
    possible = [own, *(name for name, head in _of_class(architecture) if head.asked)]
    if asked is not None and asked not in possible:
        raise InputError(f"task = {asked!r}: {architecture} is not for that.{near_names(asked, possible)}")
    return asked or own


def expanded(outputs: tuple[str, ...], layers: int) -> tuple[str, ...]:
    """Returns the outputs of a model of so many layers; its embeddings are hidden state 0."""
    return tuple(f"{x[:-1]}{i}" for x in outputs for i in range(layers + 1) if x.endswith("*")) or outputs


def output_of(result: Any, name: str) -> Any:
    """Returns the output of this name of what a model of transformers returns; `hidden_states_3` is layer 3's."""
    stem, _, number = name.rpartition("_")
    return getattr(result, stem)[int(number)] if number.isdecimal() else getattr(result, name)


def _of_class(architecture: str) -> list[tuple[str, Head]]:
    """Returns (task, head) of a class: a BertLMHeadModel is no BertModel."""
    ends = [(name, head) for name, head in heads() if architecture.endswith(head.name)]
    longest = max((len(head.name) for _, head in ends), default=0)
    return [(name, head) for name, head in ends if len(head.name) == longest]


def problem_of(config: dict[str, Any]) -> str:
    """Returns the kind of a classifier's labels as transformers sees it: its problem_type, else by their number."""
    kind = config.get("problem_type")
    if kind is None:
        number = len(config["id2label"]) if config.get("id2label") else config.get("num_labels", 2)
        kind = "regression" if number == 1 else "single_label_classification"
    return str(kind)
