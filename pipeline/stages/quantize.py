"""quantize: prove the checkpoint usable and the rewrites exact, list every place that can be quantized."""

from __future__ import annotations

import json
import logging
import shutil
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import checkpoint, prepare, processing_check, tasks
from pipeline.artifacts import Workspace, digest_path
from pipeline.errors import InputError
from pipeline.recipe import Recipe
from pipeline.stages import code_digest, versions
from pipeline.stages.calibrate import data_digest
from pipeline.tasks import _image_processing

NAME = "quantize"
log = logging.getLogger(__name__)

EXACT = 1e-4  # largest difference a rewrite may make, relative to the largest output: float rounding over the depth


def inputs(recipe: Recipe, workspace: Workspace) -> dict[str, Any]:
    source = prepare.open_source(recipe)
    return {
        "checkpoint": digest_path(source.folder),
        "family": recipe.family,
        "rewrites": recipe.rewrites,
        "shapes": recipe.shapes.model_dump(exclude={"batches"}),
        "data": data_digest(recipe),
        "samples": recipe.calibration.samples,
        "seed": recipe.seed,
        "code": code_digest(
            "families",
            "quantization",
            "tasks",
            "prepare.py",
            "checkpoint.py",
            "processing_check.py",
            "stages/quantize.py",
        ),
        **versions("torch", "transformers", "pytorch-quantization", "tokenizers", "pillow"),
    }


def outputs(recipe: Recipe) -> list[str]:
    return ["quantizers.json", "config.json"]


def run(recipe: Recipe, workspace: Workspace, area: Path) -> None:
    from pipeline import quantization

    source = prepare.open_source(recipe)
    checkpoint.check_weights(source.folder)
    copy_preprocessing(source, area)
    check_samples(source, recipe, area)
    proofs = prove_rewrites(source, recipe) if recipe.rewrites else []
    model = prepare.quantized_model(source, recipe)
    records = [
        {**r, "kind": "head"} if any(fnmatchcase(r["site"], p) for p in source.family.HEADS) else r
        for r in quantization.describe(model)
    ]
    log.info("%d quantizers at %d places", len(records), len({r["site"] for r in records}))
    document = {
        "family": recipe.family,
        "architecture": source.architecture,
        "task": source.task_name,
        "checkpoint": recipe.checkpoint or f"embedded/{recipe.family}",
        "rewrites": proofs,
        "quantizers": records,
    }
    (area / "quantizers.json").write_text(json.dumps(document, indent=1), encoding="utf-8")


def check_samples(source: prepare.Source, recipe: Recipe, area: Path) -> None:
    """Reads and encodes every sample that later stages will: what is wrong with one shows before the work.

    Raises InputError. Of samples that this project draws itself a few will do.
    """
    few = processing_check.CHECKED
    counts = tasks.counts(recipe, source.task.SAMPLES)
    if recipe.data is None:
        counts = {"calibration": min(few, counts["calibration"])}
    for split, count in counts.items():
        raw = source.task.samples(recipe, source.config, split, count, folder=source.folder)
        if split == "calibration":
            processing_check.check(source.task, source.folder, area, recipe, raw)
        for start in range(few if split == "calibration" else 0, len(raw), few):
            source.task.encode(area, recipe, raw[start : start + few])


def prove_rewrites(source: prepare.Source, recipe: Recipe) -> list[dict[str, Any]]:
    """Returns {name, max_abs_diff, relative} for every rewrite, measured on random inputs against the model before it.

    Raises RuntimeError when one is not exact: that is a fault of the rewrite, not of the checkpoint; and InputError for
    outputs that are 0 whatever the input.
    """
    model = prepare.float_model(source)
    sample = prepare.random_inputs(source, recipe, batch=1)
    before = prepare.run_torch(model, sample, source.outputs)
    if not any(x.any() for x in before.values()):
        raise InputError(
            f"checkpoint {source.folder} gives 0 in all of {', '.join(before)}: its last layer holds nothing but zeros."
        )
    proofs = []
    for name, rewrite in source.family.rewrites().items():
        model = rewrite(model).eval()
        after = prepare.run_torch(model, sample, source.outputs)
        difference = max(float(np.abs(after[k] - before[k]).max()) for k in source.outputs)
        relative = difference / max(float(np.abs(before[k]).max()) for k in source.outputs)
        if not relative <= EXACT:
            raise RuntimeError(f"the rewrite {name} changed the outputs by {relative:.2e} of the largest")
        proofs.append({"name": name, "max_abs_diff": difference, "relative": relative})
        before = after
    return proofs


def copy_preprocessing(source: prepare.Source, area: Path) -> None:
    """Copies what the engine needs to prepare its inputs: config.json and the tokenizer or image processor.

    Raises InputError when a file is missing, or when the tokenizer does not match the vocabulary.
    """
    for name in source.family.COPIED:
        if (source.folder / name).exists():
            shutil.copyfile(source.folder / name, area / name)
    if hasattr(source.task, "settings"):
        for name, content in source.task.settings(source.folder).items():
            (area / name).write_text(content, encoding="utf-8")
    if "preprocessor_config.json" in source.family.COPIED and not (area / "preprocessor_config.json").exists():
        raise InputError(f"checkpoint {source.folder} has no preprocessor_config.json (image mean, std and size).")
    if "preprocessor_config.json" in source.family.COPIED:
        _image_processing.read(source.folder)
    if "tokenizer.json" in source.family.COPIED:
        if not (area / "tokenizer.json").exists():
            _convert_tokenizer(source.folder, area)
        _check_tokenizer(source, area / "tokenizer.json")


def _convert_tokenizer(folder: Path, area: Path) -> None:
    from transformers import AutoTokenizer

    if not (folder / "vocab.txt").exists():  # without it transformers makes a tokenizer of five special tokens
        raise InputError(f"checkpoint {folder} has neither tokenizer.json nor vocab.txt: text cannot be encoded.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        tokenizer.backend_tokenizer.save(str(area / "tokenizer.json"))
    except (OSError, ValueError, AttributeError, ImportError) as error:
        raise InputError(
            f"checkpoint {folder} has neither tokenizer.json nor a vocabulary that converts to one: {error}"
        ) from error


def _check_tokenizer(source: prepare.Source, path: Path) -> None:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises bare Exceptions
        raise InputError(f"{source.folder / 'tokenizer.json'} is not a tokenizer: {error}") from error
    largest, size = max(tokenizer.get_vocab().values(), default=-1), source.config["vocab_size"]
    if largest >= size:
        raise InputError(
            f"the tokenizer of {source.folder} does not match the vocabulary: its largest token id is {largest}, "
            f"the checkpoint has embeddings for {size}."
        )
