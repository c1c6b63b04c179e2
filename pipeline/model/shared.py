"""The rewritten float model of a run: read from the checkpoint once, for all stages that compute with it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from pipeline.files import digest_path
from pipeline.model import loading

if TYPE_CHECKING:
    from collections.abc import Hashable

    from torch import nn

    from pipeline.run import Run

NAME = "model"


def rewritten_model(run: Run, source: loading.Source) -> nn.Module:
    """Returns the float model after the family's exact rewrites, as `loading.rewritten_model`; nobody may change it."""
    return run.kept.get(NAME, origin(run, source), lambda: loading.rewritten_model(source, run.recipe))


def quantized_model(run: Run, source: loading.Source) -> nn.Module:
    """Returns a model as `loading.quantized_model` does, the caller's own but for its weights."""
    model: nn.Module = source.family.insert_quantizers(twin(rewritten_model(run, source)))
    return model.eval()


def origin(run: Run, source: loading.Source) -> Hashable:
    """Returns what changes with the model that the checkpoint gives."""
    return run.recipe.family, source.task_name, run.recipe.rewrites, digest_path(source.folder, run.sha256)


def twin(model: nn.Module) -> nn.Module:
    """Returns a model of its own whose parameters and buffers are those of `model`, not copies."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})
