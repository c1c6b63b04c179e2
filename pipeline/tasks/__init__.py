"""What a model is for: how samples become inputs, outputs become predictions, and predictions a score.

One task is one module, found by its name; none needs torch, because a deployed engine needs the same code. A module has
every name of the protocol `Task`; those that most answer alike come from `_defaults`:

    HEADS                                          of a task on text: the classes of transformers, see `_heads`
    METRIC                                         the name of the task metric
    SAMPLES, AGREEMENT                             defaults of the recipe: samples per split, the budget
    def samples(recipe, config, split, count, folder=…) -> raw samples of a split: calibration, selection, evaluation
    def encode(folder, recipe, samples)            -> (inputs, labels): dicts of arrays, first axis N
    def own_encoding(folder, recipe, samples)      -> the inputs that transformers makes with the checkpoint's own files
    def predict(outputs, labels)                   -> predictions, comparable with ==
    def score(predictions, labels)                 -> the task metric
    def tally(predictions, labels)                 -> array [N] or [N, K] whose mean over samples gives the metric
    def metric(means [..., K])                     -> the metric [...] of means of [N, K]; a mean of [N] is the metric
    def chance(predictions, labels, own)           -> {answer: tally} of answers that need no look at the input;
                                                      predictions and their tally `own`: the float model's
    def unjudgeable(labels)                        -> why these labels can judge no model, None where they can
    def unseen(labels)                             -> the classes that no label holds
    def agreement(a, b)                            -> share of equal predictions
    def examples(inputs, labels, reference, engine, limit) -> what the report page shows
    def per_class(tally, labels)                   -> {class: metric}, for the plot
    def reference_labels(outputs, labels)          -> labels that the float model's outputs define
    def settings(folder)                           -> {file: content} of other settings of the checkpoint
    def judged(outputs, labels)                    -> the part of the outputs that predictions depend on
    def further(outputs, labels)                   -> {name: value}, other metrics, which are reported and not judged
    def preprocess(folder, raw, recipe) / postprocess(folder, outputs, labels)   for deployment

`folder` holds the checkpoint's own config.json and tokenizer.json or preprocessor_config.json.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import numpy as np

from pipeline.errors import InputError, near_names

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

Arrays = dict[str, np.ndarray]
Sample = TypeVar("Sample")


class Task(Protocol):
    """The names that a module of this package has."""

    METRIC: str
    AGREEMENT: float
    SAMPLES: dict[str, int]

    def samples(
        self, recipe: Recipe, config: dict[str, Any], split: str, count: int, *, folder: Path
    ) -> Sequence[Any]: ...
    def encode(self, folder: Path, recipe: Recipe, samples: Any) -> tuple[Arrays, Arrays]: ...
    def own_encoding(self, folder: Path, recipe: Recipe, samples: Any) -> Arrays: ...
    def predict(self, outputs: Arrays, labels: Arrays) -> Any: ...
    def score(self, predictions: Any, labels: Arrays) -> float: ...
    def tally(self, predictions: Any, labels: Arrays) -> np.ndarray: ...
    def metric(self, means: np.ndarray, /) -> np.ndarray: ...
    def chance(self, predictions: Any, labels: Arrays, own: np.ndarray) -> Mapping[str, np.ndarray]: ...
    def unjudgeable(self, labels: Arrays) -> str | None: ...
    def unseen(self, labels: Arrays) -> list[str]: ...
    def agreement(self, a: Any, b: Any) -> float: ...
    def examples(
        self, inputs: Arrays, labels: Arrays, reference: Any, engine: Any, limit: int
    ) -> list[dict[str, Any]]: ...
    def per_class(self, tally: np.ndarray, labels: Arrays) -> dict[str, float]: ...
    def reference_labels(self, outputs: Arrays, labels: Arrays) -> Arrays: ...
    def settings(self, folder: Path) -> dict[str, str]: ...
    def judged(self, outputs: Arrays, labels: Arrays) -> Arrays: ...
    def further(self, outputs: Arrays, labels: Arrays) -> dict[str, float]: ...
    def preprocess(self, folder: Path, raw: Any, recipe: Recipe) -> tuple[Arrays, Arrays]: ...
    def postprocess(self, folder: Path, outputs: Arrays, labels: Arrays) -> Any: ...


def names() -> list[str]:
    """Returns the name of every task, as written in the manifest: 'question-answering', …"""
    package = Path(__file__).parent
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules([str(package)]) if m.name[0] != "_")


def get(name: str) -> Task:
    """Returns the module of a task."""
    if name not in names():
        raise InputError(f"unknown task {name!r}.{near_names(name, names())}")
    return cast(Task, importlib.import_module(f"pipeline.tasks.{name.replace('-', '_')}"))


def equal_share(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Returns the share of positions at which two prediction lists are equal."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} predictions against {len(b)}")
    return float(sum(x == y for x, y in zip(a, b, strict=True))) / len(a)


def counts(recipe: Recipe, defaults: Mapping[str, int], available: int | None = None) -> dict[str, int]:
    """Returns {split: number of samples} for the splits the recipe needs; `defaults`: a task's SAMPLES.

    available: how many there are. Where the recipe gives no number, evaluation takes what calibration and selection
    leave, needed or not, as it must not depend on the method; but at least calibration's default.
    """
    asked = {
        "calibration": recipe.calibration.samples,
        "evaluation": recipe.verification.samples,
        "selection": recipe.calibration.selection_samples,
    }
    wanted = {split: number or defaults[split] for split, number in asked.items()}
    if available is not None and asked["evaluation"] is None:
        left = max(available - wanted["calibration"] - wanted["selection"], defaults["calibration"])
        wanted["evaluation"] = min(left, defaults["evaluation"])
    if recipe.calibration.method != "auto":
        del wanted["selection"]
    return wanted


def take(
    available: list[Sample], split: str, recipe: Recipe, defaults: Mapping[str, int], source: str | None = None
) -> list[Sample]:
    """Returns the samples of one split of a user's data; no two splits share a sample.

    The order is shuffled by the recipe's seed; calibration takes from the front, the others what follows. Raises
    InputError when there are too few for all splits, whichever is requested, so that the first stage that reads data
    says so before anything is replaced.
    """
    wanted = counts(recipe, defaults, len(available))
    if len(available) < sum(wanted.values()):
        settings = {
            "calibration": "calibration.samples",
            "evaluation": "verification.samples",
            "selection": "calibration.selection_samples",
        }
        raise InputError(
            f"{source or recipe.data} has {len(available)} samples; "
            f"{' and '.join(f'{name} takes {number}' for name, number in wanted.items())}, all different. Give more "
            f"data, or ask for fewer with {' and '.join(f'--set {settings[name]}=…' for name in wanted)}."
        )
    order = np.random.default_rng(recipe.seed).permutation(len(available))
    start = sum(number for name, number in wanted.items() if list(wanted).index(name) < list(wanted).index(split))
    return [available[i] for i in order[start : start + wanted[split]]]
