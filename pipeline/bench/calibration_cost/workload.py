"""The checkpoint that every case calibrates, the models made from it and their inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.model import loading
from pipeline.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    Arrays = dict[str, np.ndarray]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A BERT checkpoint and the random tokens that it is calibrated with."""

    checkpoint: str  # a folder
    scratch: str  # a folder for what cases write
    tokens: int = 128
    batch_size: int = 8
    batches: int = 8
    rounds: int = 3  # timed ones, after one that is not
    threads: int = 2

    @property
    def float_onnx(self) -> Path:
        """Where the case of that name writes the float graph."""
        return Path(self.scratch) / "float.onnx"

    @property
    def recipe(self) -> Recipe:
        overrides = {"checkpoint": self.checkpoint, "folder": self.scratch, "shapes.sequence_length": self.tokens}
        return Recipe.load("bert", overrides=overrides)

    @property
    def source(self) -> loading.Source:
        return loading.open_source(self.recipe)

    def inputs(self) -> Arrays:
        """Returns random tokens for all batches, no padding among them.  # [batches · batch_size, tokens] an input"""
        inputs = loading.random_inputs(self.source, self.recipe, self.batches * self.batch_size)
        inputs["attention_mask"][:] = 1  # padding is left out where we collect: everyone would see other data
        return inputs

    def float_model(self) -> nn.Module:
        return loading.float_model(self.source).eval()

    def quantized_model(self) -> nn.Module:
        return loading.quantized_model(self.source, self.recipe)

    def forward(self, model: nn.Module, inputs: Arrays) -> None:
        """Runs all batches without gradients."""
        import torch

        with torch.inference_mode():
            for batch in loading.batches(inputs, self.batch_size):
                model(**{name: torch.from_numpy(value) for name, value in batch.items()})


def write_checkpoint(work: Workload) -> dict[str, Any]:
    """Writes the random BERT-base where there is none yet."""
    from pipeline.bench import published

    folder = Path(work.checkpoint)
    if not (folder / "model.safetensors").exists():
        published.write_checkpoint("bert-base", folder)
    return {"checkpoint": str(folder)}


def write_float_onnx(work: Workload) -> dict[str, Any]:
    """Writes the float graph of the checkpoint as it is, for ONNX Runtime's calibrators."""
    from pipeline.graph.write import write_checked
    from pipeline.model.float_side import export_float

    write_checked(export_float(work.source, work.recipe, work.float_model()), work.float_onnx)
    return {"onnx": str(work.float_onnx)}


def some(items: list[T], count: int = 3) -> list[T]:
    """Returns `count` items spread over the list, all of a shorter one."""
    step = max(1, len(items) // count)
    return items[step // 2 :: step][:count]
