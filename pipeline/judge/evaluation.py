"""The held-out samples of reference.npz, as the engine and verify stages need them.

Beside each QDQ graph lie its exact outputs for the first few of them, computed node by node as written: a machine that
builds and checks engines needs no runtime but the engine's own.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from pipeline.errors import ArtifactError
from pipeline.progress import track

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.artifacts import Workspace

    Arrays = dict[str, NDArray[Any]]

FILE = "reference.npz"
EXACT = "exact.npz"  # beside a backend's QDQ graph
PROBES = 4  # samples of the parity check, run one by one and as one batch
PER_MODEL = ("class_names", "pooling", "vocabulary")  # labels that belong to the model, not to a sample


@dataclass(frozen=True)
class Reference:
    """Inputs, float outputs and labels of the N held-out samples, first axis N."""

    inputs: Arrays
    outputs: Arrays
    labels: Arrays

    @classmethod
    def read(cls, workspace: Workspace) -> Reference:
        """Returns the content of reference.npz. Raises ArtifactError where it is not of that form."""
        path = workspace.path(FILE)
        parts: dict[str, Arrays] = {"input": {}, "output": {}, "label": {}}
        for key, value in read_arrays(path).items():
            kind, _, name = key.partition("/")
            if kind not in parts or not name:
                raise ArtifactError(f"{path} is not a reference of this format ({key!r}); {workspace.again()}.")
            parts[kind][name] = value
        if not parts["input"] or not parts["output"]:
            raise ArtifactError(f"{path} has no inputs or no outputs; {workspace.again()}.")
        reference = cls(parts["input"], parts["output"], parts["label"])
        sizes = {name: len(x) for part in (reference.inputs, reference.outputs) for name, x in part.items()}
        if len(set(sizes.values())) != 1 or not reference.samples:
            raise ArtifactError(f"{path} has unequal sample counts ({sizes}); {workspace.again()}.")
        return reference

    @property
    def samples(self) -> int:
        return len(next(iter(self.inputs.values())))

    def digest(self) -> str:
        """Returns a digest of the inputs and labels; float labels are left out, as they come from the float model."""
        parts = {f"input/{name}": x for name, x in self.inputs.items()}
        parts |= {f"label/{name}": x for name, x in self.labels.items() if x.dtype.kind != "f"}
        digest = hashlib.sha256()
        for name, x in sorted(parts.items()):
            digest.update(f"{name} {x.dtype} {x.shape}\0".encode())
            digest.update(x.tobytes())
        return digest.hexdigest()

    def take(self, indices: Sequence[int]) -> Reference:
        """Returns the samples at `indices`, in that order; labels in PER_MODEL stay whole."""
        at = list(indices)
        labels = {name: x if name in PER_MODEL else x[at] for name, x in self.labels.items()}
        return Reference(
            {name: x[at] for name, x in self.inputs.items()},
            {name: x[at] for name, x in self.outputs.items()},
            labels,
        )

    def first(self, count: int) -> Reference:
        """Returns the first `count` samples, starting over where there are fewer."""
        return self.take([i % self.samples for i in range(count)])


def first(arrays: Arrays, count: int) -> Arrays:
    """Returns the first `count` samples of arrays [N, ...]."""
    return {name: x[:count] for name, x in arrays.items()}


def one_by_one(
    model: Callable[[Arrays], Mapping[str, NDArray[np.generic]]], inputs: Arrays, label: str | None = "running"
) -> Arrays:
    """Returns the outputs of a model that sees one sample at a time, stacked again [N, ...]."""
    return in_batches(model, inputs, 1, label)


def in_batches(
    model: Callable[[Arrays], Mapping[str, NDArray[np.generic]]], inputs: Arrays, size: int, label: str | None
) -> Arrays:
    """Returns the outputs of a model that sees `size` samples at a time, stacked again [N, ...].

    label: of the progress bar, None for none.
    """
    import numpy as np

    count = len(next(iter(inputs.values())))
    starts = range(0, count, size)
    rows = [
        model({name: x[start : start + size] for name, x in inputs.items()})
        for start in (starts if label is None else track(starts, label, len(starts)))
    ]
    return {name: np.concatenate([np.asarray(row[name]) for row in rows]) for name in rows[0]}


def read_arrays(path: Path) -> Arrays:
    """Returns the arrays of an .npz file, in its order. Raises ArtifactError for another file, or pickles in it."""
    import numpy as np

    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("a single array")
        with archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise ArtifactError(f"{path} cannot be read as arrays ({error}); run again what made it.") from error


def read_json(workspace: Workspace, name: str) -> dict[str, Any]:
    """Returns a checked JSON artifact."""
    path = workspace.path(name)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON ({error}); {workspace.again(file=name)}.") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{path} holds {type(value).__name__} where an object is expected.")
    return value
