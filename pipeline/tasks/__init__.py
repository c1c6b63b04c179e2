"""What a model is for: how samples become inputs, outputs become predictions, and predictions a score.

One task is one module, found by its name; none needs torch, because a deployed engine needs the same code:

    METRIC, DEFAULT_SAMPLES, AGREEMENT             AGREEMENT: the budget where the recipe names none
    def samples(recipe, config, split, count)      -> raw samples ("calibration" or "evaluation" split)
    def encode(folder, recipe, samples)            -> (inputs, labels): dicts of arrays, first axis N
    def predict(outputs, labels)                   -> predictions, comparable with ==
    def score(predictions, labels)                 -> the task metric
    def agreement(a, b)                            -> share of equal predictions
    def examples(inputs, labels, reference, engine, limit) -> what the report page shows
    def per_class(predictions, labels), per_sample(predictions, labels)        optional, for the plots
    def reference_labels(predictions)              optional: labels that the float model defines
    def preprocess(folder, raw) / postprocess(folder, outputs, labels)   for deployment

`folder` holds the checkpoint's own config.json and tokenizer.json or preprocessor_config.json.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from pipeline.errors import InputError, near_names
from pipeline.recipe import Recipe

Arrays = dict[str, np.ndarray]
Sample = TypeVar("Sample")


def names() -> list[str]:
    """Returns every task, as written in the manifest: 'question-answering', …"""
    package = Path(__file__).parent
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules([str(package)]) if m.name[0] != "_")


def get(name: str) -> ModuleType:
    """Returns the module of a task."""
    if name not in names():
        raise InputError(f"unknown task {name!r}.{near_names(name, names())}")
    return importlib.import_module(f"pipeline.tasks.{name.replace('-', '_')}")


def equal_share(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Returns the share of positions at which two prediction lists are equal."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} predictions against {len(b)}")
    return float(sum(x == y for x, y in zip(a, b, strict=True))) / len(a)


def take(
    found: list[Sample], split: str, count: int, recipe: Recipe, default: int, source: str | None = None
) -> list[Sample]:
    """Returns `count` samples of one split of a user's data; the two splits never share a sample.

    The order is shuffled by the recipe's seed; calibration takes from the front, evaluation what follows. default: the
    task's evaluation samples, for a recipe that names none. Raises InputError when there are too few for both splits,
    whichever is asked for: the first stage that reads data then says so, before anything is replaced.
    """
    calibration, evaluation = recipe.calibration.samples, recipe.verification.samples or default
    if len(found) < calibration + evaluation:
        raise InputError(
            f"{source or recipe.data} has {len(found)} samples; calibration takes {calibration} and evaluation "
            f"{evaluation} others. Give more data, or ask for fewer with --set calibration.samples=… and "
            f"--set verification.samples=…."
        )
    order = np.random.default_rng(recipe.seed).permutation(len(found))
    start = 0 if split == "calibration" else calibration
    return [found[i] for i in order[start : start + count]]
