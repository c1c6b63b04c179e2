"""The checkpoint, its inputs and the models that the cases share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.model import loading
from pipeline.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from pipeline.bench.calibration_cases import Workload

    Arrays = dict[str, np.ndarray]

T = TypeVar("T")


def recipe(work: Workload) -> Recipe:
    overrides = {"checkpoint": work.checkpoint, "folder": work.scratch, "shapes.sequence_length": work.tokens}
    return Recipe.load("bert", overrides=overrides)


def arrays(work: Workload) -> Arrays:
    """Returns random tokens for all batches, no padding among them.  # [batches · batch_size, tokens] an input"""
    asked = recipe(work)
    inputs = loading.random_inputs(loading.open_source(asked), asked, work.batches * work.batch_size)
    inputs["attention_mask"][:] = 1  # padding is left out where we collect: everyone would see other data
    return inputs


def float_model(work: Workload) -> nn.Module:
    return loading.float_model(loading.open_source(recipe(work))).eval()


def quantized_model(work: Workload) -> nn.Module:
    asked = recipe(work)
    return loading.quantized_model(loading.open_source(asked), asked)


def forward(model: nn.Module, inputs: Arrays, batch_size: int) -> None:
    """Runs all batches without gradients."""
    import torch

    with torch.inference_mode():
        for batch in loading.batches(inputs, batch_size):
            model(**{name: torch.from_numpy(value) for name, value in batch.items()})


def activations(model: nn.Module) -> dict[str, Any]:
    """Returns our activation quantizers by name."""
    from pipeline.quantization import quantizers

    return {name: quantizer for name, quantizer in quantizers(model) if quantizer.axis is None}


def with_library_quantizers(model: nn.Module, make: Callable[[], Any]) -> dict[str, Any]:
    """Puts pytorch-quantization's own TensorQuantizer at the place of each of ours, and returns those of activations.

    They are set as the library's guide says: quantization off, calibration on. `make` gives the calibrators. Weights
    are left out: their maximum needs no data.
    """
    from pytorch_quantization.nn import TensorQuantizer
    from pytorch_quantization.tensor_quant import QuantDescriptor

    from pipeline.quantization import quantizers

    for _, quantizer in quantizers(model):
        quantizer.disable()
    theirs = {}
    for name in activations(model):
        owner, _, attribute = name.rpartition(".")
        quantizer = TensorQuantizer(QuantDescriptor(num_bits=8, calib_method="histogram"))
        quantizer.disable_quant()
        quantizer.enable_calib()
        setattr(model.get_submodule(owner), attribute, quantizer)
        theirs[name] = quantizer
    renew(theirs, make)
    return theirs


def renew(theirs: dict[str, Any], make: Callable[[], Any]) -> None:
    """Gives each quantizer a fresh calibrator; the library's `reset` keeps the number of bins of the last run."""
    for quantizer in theirs.values():
        quantizer._calibrator = make()


def some(items: list[T], count: int = 3) -> list[T]:
    """Returns `count` items spread over the list, all of a shorter one."""
    step = max(1, len(items) // count)
    return items[step // 2 :: step][:count]


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

    asked = recipe(work)
    write_checked(export_float(loading.open_source(asked), asked), Path(work.float_onnx))
    return {"onnx": work.float_onnx}
