"""calibrate: one pass over the calibration samples, every method's amax for every quantizer."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.measure.versions import versions
from pipeline.model import collecting, loading, samples, shared
from pipeline.run import Run
from pipeline.stages.code import code_digest

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

NAME = "calibrate"
log = logging.getLogger(__name__)

PERCENTILES = (99.9, 99.99, 99.999)


def inputs(run: Run) -> dict[str, Any]:
    recipe = run.recipe
    return {
        "quantizers.json": run.digest("quantizers.json"),
        "checkpoint": run.checkpoint_digest,
        "data": samples.data_digest(recipe, run.sha256),
        "samples": recipe.calibration.samples,
        "batch_size": recipe.calibration.batch_size,
        "percentiles": percentiles(recipe),
        "shapes": recipe.shapes.model_dump(exclude={"batches"}),
        "question_answering": recipe.question_answering.model_dump(),
        "seed": recipe.seed,
        "code": code_digest(__name__, run.sha256),
        **versions("torch", "transformers"),
    }


def outputs(run: Run) -> list[str]:
    return ["calibration.json", "calibration.npz"]


def percentiles(recipe: Recipe) -> list[float]:
    return sorted({*PERCENTILES, recipe.calibration.percentile})


def make(run: Run, area: Path) -> None:
    from calibration import CalibrationTable
    from calibration.histograms import write_histograms

    model, arrays, digest = prepared(run)
    statistics, channels = collecting.collect(model, arrays, run.recipe.calibration.batch_size)
    count = len(next(iter(arrays.values())))
    records = [
        *(collecting.activation_record(n, s, count, percentiles(run.recipe)) for n, s in statistics.items()),
        *collecting.weight_records(model),
    ]
    table = CalibrationTable(
        data_digest=digest,
        samples=count,
        batches=max(statistic.batches for statistic in statistics.values()),
        versions=versions("torch", "transformers", "numpy"),
        records={record.name: record for record in records},
    )
    for record in records:
        if record.degenerate:
            log.warning("%s stays float: %s", record.name, record.degenerate)
    table.write(area / "calibration.json")
    write_histograms(area / "calibration.npz", statistics, channels)


def assist(run: Run) -> None:
    """Collects from this rank's share of the batches, for rank 0."""
    model, arrays, _ = prepared(run)
    collecting.collect(model, arrays, run.recipe.calibration.batch_size)


def prepared(run: Run) -> tuple[Any, dict[str, Any], str]:
    """Returns the model with its quantizers, the encoded samples, and their digest."""
    source = loading.open_source(run.recipe)
    arrays, digest = samples.calibration_of(run, source)
    return shared.quantized_model(run, source), arrays, digest
