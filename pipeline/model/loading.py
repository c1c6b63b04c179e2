"""A recipe's checkpoint, and the models made from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import checkpoint, families, tasks
from pipeline.checkpoint import reading
from pipeline.errors import InputError
from pipeline.families import _config
from pipeline.tasks import Arrays, _heads, _image_processing

if TYPE_CHECKING:
    from torch import nn

    from pipeline.families import Family
    from pipeline.recipe import Recipe
    from pipeline.tasks import Task


@dataclass(frozen=True)
class Source:
    """A checkpoint that was found and is of the right family."""

    folder: Path
    config: dict[str, Any]
    architecture: str
    task_name: str
    family: Family

    @property
    def task(self) -> Task:
        return tasks.get(self.task_name)

    @property
    def outputs(self) -> tuple[str, ...]:
        return _heads.expanded(self.family.OUTPUTS[self.task_name], self.config.get("num_hidden_layers", 0))


def open_source(recipe: Recipe) -> Source:
    """Returns the recipe's checkpoint. Raises InputError for one that the family cannot take."""
    family = families.get(recipe.family)
    folder = checkpoint.resolve(recipe.checkpoint, recipe.family)
    config = reading.read_config(folder)
    checkpoint.check_whole(folder, config)
    if not config.get("architectures") and config.get("model_type") == family.MODEL_TYPE:
        config["architectures"] = [checkpoint.architecture_in(folder, family.WEIGHTS)]
    architecture, task = checkpoint.task_of(config, family.TASKS, recipe.family, family.MODEL_TYPE)
    task = _heads.for_checkpoint(task, architecture, config, recipe.task)
    config = _config.completed(family.CONFIG, config, folder)
    family.check(config, _sized(recipe, family, folder))
    return Source(folder, config, architecture, task, family)


def sized(recipe: Recipe) -> Recipe:
    """Returns the recipe with the image size that it leaves to the checkpoint; one for text as it is."""
    family = families.get(recipe.family)
    return _sized(recipe, family, checkpoint.resolve(recipe.checkpoint, recipe.family))


def _sized(recipe: Recipe, family: Family, folder: Path) -> Recipe:
    if recipe.shapes.image_size is not None or "pixel_values" not in family.INPUTS:
        return recipe
    return recipe.with_image_size(_image_processing.engine_size(folder, recipe))


def check_judgeable(source: Source, recipe: Recipe, labels: Arrays) -> None:
    """Raises InputError for held-out samples by whose labels any engine would pass, or none could be judged."""
    reason = source.task.unjudgeable(labels)
    if reason and not recipe.budgets.waives_metric:
        raise InputError(
            f"cannot judge: {reason}. Those are the held-out samples of {recipe.data or 'the generated data'}: give "
            "data in which right answers differ, take more of them with --set verification.samples=…, or ask for no "
            "accuracy with --set budgets.relative_drop=1."
        )


def float_model(source: Source) -> nn.Module:
    """Returns the checkpoint's model as it is."""
    import torch
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # a second of loading, and a bar per call
    transformers_logging.set_verbosity_error()
    torch.manual_seed(0)
    model: nn.Module = source.family.load(source.folder, source.architecture, source.config, source.outputs)
    # a sum is finite only where all summands are, and takes one read of the weights where isfinite() takes several
    doubtful = [(name, p) for name, p in model.named_parameters() if not torch.isfinite(p.detach().sum())]
    bad = [name for name, p in doubtful if not torch.isfinite(p).all()]
    if bad:
        raise InputError(
            f"{source.folder}: {len(bad)} parameters are NaN or infinite after loading, the first is {bad[0]!r}."
        )
    return model


def rewritten_model(source: Source, recipe: Recipe) -> nn.Module:
    """Returns the float model after the family's exact rewrites, or unchanged where the recipe turns them off."""
    model = float_model(source)
    if recipe.rewrites:
        for rewrite in source.family.rewrites().values():
            model = rewrite(model)
    return model.eval()


def quantized_model(source: Source, recipe: Recipe) -> nn.Module:
    """Returns the rewritten model with every candidate quantizer in place, not calibrated."""
    model: nn.Module = source.family.insert_quantizers(rewritten_model(source, recipe))
    return model.eval()


def random_inputs(source: Source, recipe: Recipe, batch: int = 2) -> dict[str, np.ndarray]:
    """Returns inputs of the right shape with fixed random content, for tracing and for proofs."""
    generator = np.random.default_rng(recipe.seed)
    if "pixel_values" in source.family.INPUTS:
        size = _image_processing.engine_size(source.folder, recipe)
        image_shape = (batch, source.config["num_channels"], *size)
        return {"pixel_values": generator.standard_normal(image_shape, dtype=np.float32)}
    length = recipe.shapes.sequence_length
    sizes = {"batch": batch, "choices": recipe.shapes.choices, "sequence": length}
    shape = tuple(sizes[axis] for axis in _heads.axes_of(source.config))
    mask = np.ones(shape, dtype=np.int64)
    mask[-1, ..., length * 3 // 4 :] = 0
    return {
        "input_ids": generator.integers(0, source.config["vocab_size"], shape),
        "attention_mask": mask,
        "token_type_ids": np.zeros(shape, dtype=np.int64),
    }


def batches(inputs: dict[str, np.ndarray], size: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields slices of `size` samples; the last may be smaller."""
    count = len(next(iter(inputs.values())))
    for start in range(0, count, size):
        yield {name: value[start : start + size] for name, value in inputs.items()}


def unpadded_batches(inputs: dict[str, np.ndarray], size: int) -> list[dict[str, np.ndarray]]:
    """Returns batches of samples of like length, cut to the longest of each: hardly any padding is left.

    No output depends on a padding position, so its activations must not decide about scales either; and short texts
    take a fraction of the time. Inputs without an attention mask come in their own order, whole.
    """
    if "attention_mask" not in inputs:
        return list(batches(inputs, size))
    mask = inputs["attention_mask"] != 0
    mask = mask.reshape(len(mask), -1, mask.shape[-1]).any(1)  # of a question's longest choice
    lengths = mask.shape[1] - np.argmax(mask[:, ::-1], axis=1)  # up to the last real token
    order = np.argsort(lengths, kind="stable")
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    return [{name: value[rows][..., : lengths[rows].max()] for name, value in inputs.items()} for rows in groups]


def run_torch(model: nn.Module, inputs: dict[str, np.ndarray], outputs: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Returns the named outputs of one forward pass without gradients."""
    import torch

    with torch.no_grad():
        result = model(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    return {name: _heads.output_of(result, name).numpy() for name in outputs}
