"""quantize: prove the checkpoint usable and the rewrites exact, list every place that can be quantized."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import tasks
from pipeline.checkpoint import reading, weights
from pipeline.errors import InputError, in_short
from pipeline.families import _engine_inputs
from pipeline.files import digest_path
from pipeline.judge import verdict
from pipeline.measure.versions import versions
from pipeline.model import exactness, loading, processing_check, samples, shared
from pipeline.run import Run
from pipeline.stages.code import code_digest
from pipeline.tasks import _image_processing

if TYPE_CHECKING:
    from torch import nn

    from pipeline.recipe import Recipe
    from pipeline.tasks import Arrays

NAME = "quantize"
log = logging.getLogger(__name__)


def inputs(run: Run) -> dict[str, Any]:
    recipe, sha256 = run.recipe, run.sha256
    source = loading.open_source(recipe)
    return {
        "checkpoint": digest_path(source.folder, sha256),
        "family": recipe.family,
        "task": recipe.task,
        "rewrites": recipe.rewrites,
        "shapes": recipe.shapes.model_dump(exclude={"batches"}),
        "question_answering": recipe.question_answering.model_dump(),
        "data": samples.data_digest(recipe, sha256),
        "samples": recipe.calibration.samples,
        "seed": recipe.seed,
        "code": code_digest(__name__, sha256),
        **versions("torch", "transformers", "pytorch-quantization", "tokenizers", "pillow"),
    }


def outputs(run: Run) -> list[str]:
    return ["quantizers.json", "config.json"]


def make(run: Run, area: Path) -> None:
    from pipeline import quantization

    recipe = run.recipe
    source = loading.open_source(recipe)
    weights.check_weights(source.folder)
    copy_preprocessing(source, area)
    announce_choices(source, recipe)
    origin = shared.origin(run, source)  # of before it is read
    model = loading.float_model(source)
    check_samples(source, run, area)
    model, proofs = prove_rewrites(source, recipe, model)
    run.kept.keep(shared.NAME, origin, model)
    model = source.family.insert_quantizers(shared.twin(model))
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


def check_samples(source: loading.Source, run: Run, area: Path) -> None:
    """Reads and encodes every sample that later stages will: what is wrong with one shows before the work.

    Raises InputError. Of samples that this project draws itself a few will do. The others are kept for those stages.
    """
    recipe, task, few = run.recipe, source.task, processing_check.CHECKED
    counts = tasks.counts(recipe, task.SAMPLES)
    if recipe.data is None:
        counts = {"calibration": min(few, counts["calibration"])}
    for split, count in counts.items():
        raw = task.samples(recipe, source.config, split, count, folder=source.folder)
        if split == "calibration":
            check_inputs(source, recipe, processing_check.check(task, source.folder, area, recipe, raw[:few]))
        if recipe.data is None:
            continue
        encoded = samples.stored(run, source, split, area, raw)
        if split != "calibration":
            check_labels(source, recipe, encoded.labels())


def check_labels(source: loading.Source, recipe: Recipe, labels: Arrays) -> None:
    """Raises InputError for samples that no model can be judged by: the stage that judges comes minutes later."""
    loading.check_judgeable(source, recipe, labels)
    if unseen := source.task.unseen(labels):
        log.warning("%s", verdict.unseen(unseen, len(labels["class_names"])))


def announce_choices(source: loading.Source, recipe: Recipe) -> None:
    """Logs what was taken in place of what the checkpoint says, or leaves unsaid."""
    if not reading.read_config(source.folder).get("architectures"):
        log.warning("quantize: config.json names no architecture; by its weights it is a %s", source.architecture)
    if _image_processing.FILE not in source.family.COPIED:
        return
    size = _image_processing.described(_image_processing.engine_size(source.folder, recipe)._asdict())
    if stride := recipe.shapes.window_stride:
        apart = _image_processing.described(stride._asdict())
        log.info("quantize: windows of %s slide over images, which keep their size, %s apart", size, apart)
    elif other := _image_processing.other_size(source.folder, recipe):
        log.warning(
            "quantize: images are resized to %s, as shapes.image_size says; the checkpoint's own processor has %s",
            size,
            _image_processing.described(other),
        )


def check_inputs(source: loading.Source, recipe: Recipe, found: Mapping[str, np.ndarray]) -> None:
    """Raises InputError where the data, encoded as the checkpoint says, is nothing that its model can take."""
    try:
        _engine_inputs.check(found, source.family.input_limits(source.config, recipe))
    except InputError as error:
        raise InputError(
            f"checkpoint {source.folder}: what its own tokenizer or image processor makes of your data is not what "
            f"its config.json describes: {error}"
        ) from error


def prove_rewrites(source: loading.Source, recipe: Recipe, model: nn.Module) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Returns the rewritten model, and {name, max_abs_diff, relative} for every rewrite, measured on random inputs
    against the model before it.

    Where float64 had to be asked, float32 and rewritten too: the distances from it (see `exactness.Difference`).
    model: the float model, which is changed. Raises InputError when the checkpoint's model itself does not run
    or gives 0 whatever the input, and RuntimeError when a rewrite is not exact: that is a fault of the rewrite.
    """
    sample = loading.random_inputs(source, recipe, batch=1)
    before = first_outputs(source, model, sample)
    if dead := [name for name, value in before.items() if not value.any()]:
        raise InputError(
            f"checkpoint {source.folder} gives 0 in all of {', '.join(dead)}: its last layer holds nothing but zeros."
        )

    several = loading.random_inputs(source, recipe, exactness.samples_for(before))
    own = exactness.Own(lambda: loading.float_model(source), several, source.outputs)
    proofs: list[dict[str, Any]] = []
    for name, rewrite in source.family.rewrites().items() if recipe.rewrites else ():
        model = rewrite(model).eval()
        run = partial(loading.run_torch, model, outputs=source.outputs)
        after = run(sample)
        found = exactness.difference(after, before, own, run)
        if not found.is_rounding:
            if not all(np.isfinite(x).all() for x in before.values()):
                raise InputError(f"checkpoint {source.folder} gives NaN or infinite outputs: its weights overflow.")
            raise RuntimeError(f"the rewrite {name} changed the outputs by {found}")
        if found.float32 is not None:
            log.warning("quantize: the rewrite %s changed the outputs by %s: rounding of float32", name, found)
        proofs.append({"name": name, **found.to_json()})
        before = after
    return model, proofs


def first_outputs(source: loading.Source, model: nn.Module, sample: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs of the checkpoint's own model. Raises InputError for whatever it raises."""
    try:
        return loading.run_torch(model, sample, source.outputs)
    except MemoryError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in sample.items())
        raise InputError(
            f"checkpoint {source.folder} loads as {source.architecture} and does not run on {shapes}: PyTorch says "
            f"{type(error).__name__}: {in_short(error)}"
        ) from error


def copy_preprocessing(source: loading.Source, area: Path) -> None:
    """Copies what the engine needs to prepare its inputs: config.json and the tokenizer or image processor.

    Raises InputError when a file is missing, or when the tokenizer does not match the vocabulary.
    """
    for name in source.family.COPIED:
        if (source.folder / name).exists():
            reading.copy(source.folder, name, area)
    for name, content in source.task.settings(source.folder).items():
        (area / name).write_text(content, encoding="utf-8")
    if _image_processing.FILE in source.family.COPIED:
        _image_processing.read(source.folder)
    if "tokenizer.json" in source.family.COPIED:
        if not (area / "tokenizer.json").exists():
            _convert_tokenizer(source.folder, area)
        _check_tokenizer(source, area / "tokenizer.json")


def _convert_tokenizer(folder: Path, area: Path) -> None:
    from transformers import AutoTokenizer

    if not (folder / "vocab.txt").exists():  # without it transformers makes a tokenizer of five special tokens
        raise InputError(
            f"checkpoint {folder} has neither tokenizer.json nor vocab.txt: text cannot be encoded. Copy the tokenizer "
            "from the model that was fine-tuned: Trainer saves it only where it was given one."
        )
    with reading.as_transformers_reads(folder) as readable:
        try:
            tokenizer = AutoTokenizer.from_pretrained(readable, trust_remote_code=False)
            tokenizer.backend_tokenizer.save(str(area / "tokenizer.json"))
        except Exception as error:
            said = str(error).replace(str(readable), str(folder))
            raise InputError(
                f"checkpoint {folder} has neither tokenizer.json nor a vocabulary that converts to one: {said}"
            ) from error


def _check_tokenizer(source: loading.Source, path: Path) -> None:
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
