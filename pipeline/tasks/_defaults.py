"""Functions that most tasks share; a task that differs has its own by the same name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def metric(means: np.ndarray) -> np.ndarray:
    """Returns the metric of mean tallies: the means themselves."""
    return means


def judged(outputs: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the part of the outputs that predictions depend on: all."""
    return outputs


def further(outputs: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> dict[str, float]:
    """Returns other metrics, which are reported and not judged: there are none."""
    return {}


def reference_labels(outputs: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the labels that the float model defines: none, as the data has them."""
    return {}


def per_class(tally: np.ndarray, labels: dict[str, np.ndarray]) -> dict[str, float]:
    """Returns the metric of every class: there are none."""
    return {}


def unseen(labels: dict[str, np.ndarray]) -> list[str]:
    """Returns the classes that no label holds: there are none."""
    return []


def differing_first(rows: Sequence[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Returns a task's examples, those on which {float} and {engine} differ first, `limit` at most."""
    return sorted(rows, key=lambda row: row["float"] == row["engine"])[:limit]


def settings(folder: Path) -> dict[str, str]:
    """Returns {file: content} of other settings of the checkpoint: none."""
    return {}
