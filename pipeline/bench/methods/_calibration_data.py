"""The calibration samples of our own engine, made again for the peers: everyone calibrates on the same data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pipeline.errors import ArtifactError
from pipeline.judge.evaluation import read_json
from pipeline.model import loading, samples
from pipeline.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.artifacts import Workspace

    Arrays = dict[str, NDArray[np.generic]]


def arrays(workspace: Workspace) -> Arrays:
    """Returns what the calibrate stage read, [N, ...] an input.

    Raises ArtifactError where the recipe gives other data now than it gave then.
    """
    recorded = workspace.manifest.recipe
    recipe = Recipe.load(recorded["family"], overrides={"folder": workspace.folder}, defaults=recorded)
    found, digest = samples.calibration(recipe, loading.open_source(recipe), workspace.folder)
    expected = read_json(workspace, "calibration.json")["data_digest"]
    if digest != expected:
        raise ArtifactError(
            f"the calibration data are not those that {workspace.folder} was calibrated with "
            f"({digest[:12]}…, recorded {expected[:12]}…); {workspace.again()}."
        )
    return dict(found)


def count(found: Arrays) -> int:
    """Returns N."""
    return len(next(iter(found.values())))


def one_by_one(found: Arrays) -> list[Arrays]:
    """Returns each sample as a batch of one, without padding, as our own calibration sees it."""
    return loading.unpadded_batches(found, 1)


def reader(batches: Iterable[Arrays]) -> Any:
    """Returns batches as the data reader of ONNX Runtime's calibrators."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iter(batches)

        def get_next(self) -> Arrays | None:
            return next(self._batches, None)

    return Reader()
