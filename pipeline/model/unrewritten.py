"""The float side of the export stage in a process of its own: original.onnx and the reference that is made with it.

The exporter is Python on one core. The unmodified model and the quantized one have nothing to tell each other, so the
stage exports the first here, beside the second, each on a core.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.measure.process import Process
from pipeline.model.encoded import Encoded
from pipeline.recipe import Recipe


@contextlib.contextmanager
def exported_beside(recipe: Recipe, held_out: Encoded, area: Path) -> Iterator[None]:
    """Runs the process while the block runs, and waits for it; whatever ends the block ends the process too.

    held_out: the samples that the float model answers. Raises what the process met, as `pipeline.measure.process` does.
    """
    what = "the process that exports the float model"
    folders = [str(folder.resolve()) for folder in (held_out.folder, area)]
    with Process(what, f"{__name__}:export", recipe.model_dump(mode="json"), *folders) as process:
        yield
        process.result()


def export(recipe: dict[str, Any], held_out: str, area: str) -> None:
    """Writes the float side into the stage's staging folder."""
    from pipeline.model.float_side import export_original

    export_original(Recipe.model_validate(recipe), Encoded(Path(held_out)), Path(area))
