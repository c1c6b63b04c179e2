"""One PyTorch model to one ONNX graph, by the `torch.export`-based exporter."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from calibration.arithmetic import scale_of
from calibration.errors import CalibrationError
from pipeline.quantization import TensorQuantizer, quantizers
from pipeline.quantization.fake_quantize import PER_TENSOR, fake_quantize, onnx_translation
from pipeline.tasks._heads import output_of

OPSET = 20  # the first with Gelu as one node


def export_onnx(
    model: torch.nn.Module,
    inputs: dict[str, np.ndarray],
    outputs: tuple[str, ...],
    dynamic: dict[str, dict[int, str]],
) -> ir.Model:
    """Returns the graph of `model` in evaluation mode, quantizers as QuantizeLinear → DequantizeLinear.

    inputs: one example per input name, batch at least 2 (the exporter takes a dimension of 1 for a constant);
    dynamic: {input: {axis: dimension name}}.
    """
    dims = {dim: torch.export.Dim(dim) for axes in dynamic.values() for dim in axes.values()}
    with _quiet(), torch.no_grad(), _constant_scales(model), _giving(model, outputs), _without_garbage_collection():
        program = torch.onnx.export(
            model.eval(),
            kwargs={name: torch.from_numpy(value) for name, value in inputs.items()},
            dynamo=True,
            opset_version=OPSET,
            output_names=list(outputs),
            dynamic_shapes={name: {axis: dims[dim] for axis, dim in dynamic.get(name, {}).items()} for name in inputs},
            custom_translation_table=onnx_translation(),
            optimize=False,  # `graph.tidy` does it, and keeps quantizers apart
            verbose=False,
        )
    return program.model  # type: ignore[union-attr]


class _ConstantQuantizer(torch.nn.Module):
    """A calibrated TensorQuantizer with its scale already computed: one node in the graph instead of six."""

    def __init__(self, quantizer: TensorQuantizer) -> None:
        super().__init__()
        amax, self.name = quantizer._amax, quantizer.name
        try:
            scale = torch.from_numpy(scale_of(amax.numpy(force=True), quantizer.bound)).to(amax.device)
        except CalibrationError as fault:
            raise ValueError(f"{self.name}: {fault}; calibrate it again.") from None
        self.register_buffer("scale", scale.reshape(()) if quantizer.axis is None else scale.reshape(-1))
        self.axis, self.bound = quantizer.axis, quantizer.bound

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        axis = PER_TENSOR if self.axis is None else self.axis % x.dim()
        return fake_quantize(x, self.scale, axis, -self.bound - 1, self.bound, self.name)  # type: ignore[no-any-return]


@contextlib.contextmanager
def _constant_scales(model: torch.nn.Module) -> Iterator[None]:
    """Puts constant quantizers in the places of the calibrated ones.

    Tracing how each computes its scale from amax takes longer than tracing all the rest of a BERT, and the arithmetic
    is folded to the same constant afterwards.
    """
    calibrated = {name: q for name, q in quantizers(model) if _scale_is_constant(q)}
    for name, quantizer in calibrated.items():
        model.set_submodule(name, _ConstantQuantizer(quantizer))
    try:
        yield
    finally:
        for name, quantizer in calibrated.items():
            model.set_submodule(name, quantizer)


def _scale_is_constant(quantizer: TensorQuantizer) -> bool:
    """Returns whether the quantizer is on and quantizes to signed integers, the lowest included, by a stored amax that
    is one value or lies along one axis.
    """
    other = quantizer._unsigned or quantizer._narrow_range or quantizer._learn_amax or quantizer._scale_amax is not None
    signed = quantizer._fake_quant and not other
    if not (quantizer.is_enabled and quantizer._if_quant and signed and "_amax" in quantizer._buffers):
        return False
    amax, axis = quantizer._amax, quantizer.axis
    if amax.numel() == 1:
        return axis is None or isinstance(axis, int)
    return isinstance(axis, int) and (amax.dim() == 1 or amax.shape[axis:][:1] == (amax.numel(),))


@contextlib.contextmanager
def _giving(model: torch.nn.Module, outputs: tuple[str, ...]) -> Iterator[None]:
    """Lets the model return these outputs alone, in this order: the exporter numbers whatever a model returns."""
    forward = model.forward

    @functools.wraps(forward)
    def chosen(*args: Any, **kwargs: Any) -> Any:
        result = forward(*args, **kwargs)
        return result if isinstance(result, torch.Tensor) else tuple(output_of(result, name) for name in outputs)

    model.forward = chosen
    try:
        yield
    finally:
        del model.forward


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Pauses the cyclic collector: tracing allocates millions of objects, and searching them again and again for cycles
    takes a quarter of its time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides the exporter's warnings about its own deprecations and about packages that are not there."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            exporter.setLevel(level)
