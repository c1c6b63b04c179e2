"""Are a checkpoint's inputs here those that its own image processor or tokenizer makes in transformers?

No list of settings can be complete; so a few samples are encoded both ways, once, before anything is computed of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.checkpoint.reading import as_transformers_reads
from pipeline.errors import InputError

if TYPE_CHECKING:
    from pipeline.recipe import Recipe
    from pipeline.tasks import Task

CHECKED = 8  # samples
TOKENIZER = "tokenizer.json"


def check(task: Task, checkpoint: Path, area: Path, recipe: Recipe, raw: Sequence[Any]) -> dict[str, np.ndarray]:
    """Returns the inputs that a few samples make. Raises InputError naming the checkpoint's file and the inputs that
    differ from transformers' own.

    area: holds the copies of the checkpoint's files that encode from now on. A tokenizer.json that its
    tokenizer_config.json overrules (lower case, accents) is replaced there by what transformers makes of both.
    """
    few = raw[:CHECKED]
    found, _ = task.encode(area, recipe, few)  # first: it names a sample that cannot be encoded
    own = _own(task, checkpoint, recipe, few)
    differing = differences(found, own)
    if differing and (area / TOKENIZER).exists():
        _save_own_tokenizer(checkpoint, area)
        found, _ = task.encode(area, recipe, few)
        differing = differences(found, own)
    if differing:
        file = "preprocessor_config.json" if "pixel_values" in found else "tokenizer_config.json"
        raise InputError(
            f"{checkpoint}: its own processor in transformers makes other inputs of {len(few)} of your samples than "
            f"this project: {'; '.join(differing)}. {file} asks for something that is not followed here; "
            "please report it."
        )
    return dict(found)


def differences(found: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray]) -> list[str]:
    """Returns a phrase for every input that differs; pixels may by float rounding, ids not at all."""
    said = []
    for name, expected in own.items():
        if found[name].shape != expected.shape:
            said.append(f"{name} has shape {list(found[name].shape)} instead of {list(expected.shape)}")
            continue
        scale = float(np.abs(expected).max(initial=0)) if expected.dtype.kind == "f" else 0.0
        with np.errstate(invalid="ignore"):  # calibration refuses infinite values by name
            unequal = np.abs(found[name].astype(np.float64) - expected) > 1e-5 * scale
        if unequal.any():
            said.append(f"{unequal.mean():.1%} of {name}")
    return said


def _own(task: Task, checkpoint: Path, recipe: Recipe, raw: Sequence[Any]) -> dict[str, np.ndarray]:
    with as_transformers_reads(checkpoint) as folder:
        try:
            return dict(task.own_encoding(folder, recipe, raw))
        except InputError:
            raise
        except Exception as error:
            said = " ".join(str(error).split())[:300].replace(str(folder), str(checkpoint)) or type(error).__name__
            raise InputError(
                f"{checkpoint}: its own tokenizer or image processor fails in transformers: {said}"
            ) from error


def _save_own_tokenizer(checkpoint: Path, area: Path) -> None:
    from transformers import AutoTokenizer

    with as_transformers_reads(checkpoint) as folder:
        own = AutoTokenizer.from_pretrained(folder, trust_remote_code=False).backend_tokenizer
    own.no_padding()
    own.no_truncation()
    aside = area / f".{TOKENIZER}"
    own.save(str(aside))
    shutil.move(aside, area / TOKENIZER)
