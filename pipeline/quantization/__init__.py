"""QDQBERT-style quantization of a Hugging Face model: insert quantizers, list them, switch them, give them amax."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from pytorch_quantization.tensor_quant import QuantDescriptor
from torch import nn

from pipeline.errors import InputError, near_names
from pipeline.quantization import modules
from pipeline.quantization.modules import WEIGHTED, QuantConv2d, QuantEmbedding, QuantLinear
from pipeline.quantization.tensor_quantizer import TensorQuantizer

__all__ = [
    "QuantConv2d",
    "QuantDescriptor",
    "QuantEmbedding",
    "QuantLinear",
    "TensorQuantizer",
    "apply_amax",
    "describe",
    "insert_quantizers",
    "quantizers",
    "set_enabled",
]


def insert_quantizers(
    model: nn.Module,
    *,
    attention: type[nn.Module] | None = None,
    residual: Mapping[type[nn.Module], type[nn.Module]] | None = None,
) -> nn.Module:
    """Returns `model` with a quantizer at every candidate place, converted in place.

    attention: the class of self-attention modules; residual: {float class: its subclass with quantized adds}.
    """
    candidates: list[Any] = list(model.modules())
    for module in candidates:
        if type(module) in WEIGHTED:
            module.__class__ = WEIGHTED[type(module)]
            module.add_quantizers()
        elif residual and type(module) in residual:
            module.__class__ = residual[type(module)]
            module.add_quantizers()
        elif attention is not None and isinstance(module, attention):
            modules.add_attention_quantizers(module)
    if attention is not None:
        modules.register_attention()
        model.config._attn_implementation = modules.ATTENTION  # type: ignore[union-attr]
    for name, quantizer in quantizers(model):
        quantizer.name = name
    return model


def quantizers(model: nn.Module) -> Iterator[tuple[str, TensorQuantizer]]:
    """Yields (module path, quantizer) for every quantizer of a model."""
    for name, module in model.named_modules():
        if isinstance(module, TensorQuantizer):
            yield name, module


def kind_of(module: nn.Module, attribute: str) -> str:
    """Returns the kind of operator that a module's quantizer `attribute` serves.

    One of linear, conv, pointwise, depthwise, embedding, scores, context, sum, local and residual.
    """
    if isinstance(module, QuantConv2d):
        if module.groups > 1:
            return "depthwise"
        return "pointwise" if module.kernel_size == (1, 1) else "conv"
    if isinstance(module, QuantLinear):
        return "linear"
    if isinstance(module, QuantEmbedding):
        return "embedding"
    if attribute.startswith("matmul_"):
        return "scores" if attribute[7] in "qk" else "context"
    if attribute.startswith("sum_"):
        return "sum"
    return "local" if "add_local" in attribute else "residual"


def _operator(attribute: str, kind: str) -> str:
    """Returns the operator's name within its module: scores, context, a summand, or the add of both residual inputs."""
    if kind == "sum":
        return attribute.removesuffix("_input_quantizer")
    return kind if kind in ("scores", "context") else attribute.partition("add_")[0] + "add"


def describe(model: nn.Module) -> list[dict[str, Any]]:
    """Returns one record per quantizer: name, site (the operator it belongs to), kind, role, axis, num_bits."""
    parents = dict(model.named_modules())
    records = []
    for name, quantizer in quantizers(model):
        owner, _, attribute = name.rpartition(".")
        kind = kind_of(parents[owner], attribute)
        weighted = attribute in ("_input_quantizer", "_weight_quantizer")
        records.append(
            {
                "name": name,
                "site": owner if weighted else f"{owner}.{_operator(attribute, kind)}",
                "kind": kind,
                "role": "weight" if attribute == "_weight_quantizer" else "activation",
                "axis": quantizer.axis,
                "num_bits": quantizer.num_bits,
            }
        )
    return records


def set_enabled(model: nn.Module, patterns: Iterable[str], enabled: bool) -> list[str]:
    """Returns the names of the quantizers that match a shell pattern, after switching them all on or off.

    Raises InputError for a pattern that matches none.
    """
    by_name = dict(quantizers(model))
    switched = []
    for pattern in patterns:
        names = [name for name in by_name if fnmatchcase(name, pattern)]
        if not names:
            raise InputError(f"the pattern {pattern!r} matches no quantizer.{near_names(pattern, by_name)}")
        switched += names
    for name in switched:  # after the last check: a typo leaves the model as it was
        by_name[name]._disabled = not enabled
    return switched


def apply_amax(model: nn.Module, amax: Mapping[str, np.ndarray | list[float]]) -> None:
    """Sets amax of every quantizer named in `amax` and disables the others.

    amax: {name: one value}, or one value per channel along the quantizer's axis.
    """
    for name, quantizer in quantizers(model):
        if name not in amax:
            quantizer.disable()
            continue
        value = torch.as_tensor(np.asarray(amax[name], dtype=np.float32))
        quantizer.set_amax(value.reshape(()) if quantizer.axis is None else value.reshape(-1))
