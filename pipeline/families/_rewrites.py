"""Exact float rewrites that families share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def fold_attention_scale(attention: type[nn.Module], query: str) -> Callable[[nn.Module], nn.Module]:
    """Returns a rewrite that multiplies 1/√d into the query projection:  (x·W + b)·s = x·(s·W) + s·b.

    The product of scores then follows the projection directly, so its quantizer can move to the projection's output.
    Bit-exact where √d is a power of two (d = 16, 64, 256), float rounding elsewhere.
    """

    def rewrite(model: nn.Module) -> nn.Module:
        layers: list[Any] = [m for m in model.modules() if isinstance(m, attention)]
        for module in layers:
            projection = getattr(module, query)
            with torch.no_grad():
                projection.weight.mul_(module.scaling)
                if projection.bias is not None:
                    projection.bias.mul_(module.scaling)
            module.scaling = 1.0
        return model

    return rewrite
