"""Quantized linear layers, convolutions, attention and residual adds, in place of the float ones.

A float module is converted in place (its class is swapped), so parameters, names, hooks and `state_dict` keys stay.
Quantizer names follow pytorch-quantization and QDQBERT:

    Linear, Conv2d     _input_quantizer (per tensor), _weight_quantizer (per output channel)
    Embedding          _weight_quantizer (per row: every vocabulary entry has its own amax)
    attention          matmul_q_input_quantizer, matmul_k_…, matmul_a_… (probabilities), matmul_v_…
    residual add       add_local_input_quantizer (the branch), add_residual_input_quantizer (the skip)
    sum                sum_1_input_quantizer, sum_2_…, one per summand
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from pytorch_quantization.nn.modules._utils import QuantMixin
from pytorch_quantization.tensor_quant import QuantDescriptor
from torch import nn

from pipeline.quantization.tensor_quantizer import TensorQuantizer

ATTENTION = "int8_pipeline"  # key in transformers' AttentionInterface
PER_TENSOR = QuantDescriptor(num_bits=8, calib_method="histogram")
PER_CHANNEL = QuantDescriptor(num_bits=8, axis=0)


class _Weighted(QuantMixin):
    """A module with a quantized input and a quantized weight whose output channels lie along axis 0."""

    channel_axis: int  # of the input
    default_quant_desc_input = PER_TENSOR
    default_quant_desc_weight = PER_CHANNEL

    def add_quantizers(self) -> None:
        self._input_quantizer = TensorQuantizer(self.default_quant_desc_input)
        self._weight_quantizer = TensorQuantizer(self.default_quant_desc_weight)
        self._input_quantizer.calibrate_channels(self.channel_axis)


class QuantLinear(nn.Linear, _Weighted):
    """y = Q(x) · Q(W)ᵀ + b."""

    channel_axis = -1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(self._input_quantizer(x), self._weight_quantizer(self.weight), self.bias)


class QuantConv2d(nn.Conv2d, _Weighted):
    """y = Q(x) ∗ Q(W) + b."""

    channel_axis = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(self._input_quantizer(x), self._weight_quantizer(self.weight), self.bias)


class QuantEmbedding(nn.Embedding, QuantMixin):
    """y = Q(W)[ids]. A row of zeros, such as a padding token's, has amax 0 and stays zero at any scale."""

    default_quant_desc_weight = PER_CHANNEL

    def add_quantizers(self) -> None:
        self._weight_quantizer = TensorQuantizer(self.default_quant_desc_weight)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(
            ids,
            self._weight_quantizer(self.weight),
            self.padding_idx,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.sparse,
        )


WEIGHTED: dict[type[nn.Module], type[Any]] = {
    nn.Linear: QuantLinear,
    nn.Conv2d: QuantConv2d,
    nn.Embedding: QuantEmbedding,
}

MATMULS = ("matmul_q", "matmul_k", "matmul_a", "matmul_v")


def add_input_quantizers(module: nn.Module, *names: str) -> None:
    """Gives a module one input quantizer per name, with the input descriptor of linear layers, as in QDQBERT."""
    for name in names:
        setattr(module, f"{name}_input_quantizer", TensorQuantizer(QuantLinear.default_quant_desc_input))


def add_attention_quantizers(module: nn.Module) -> None:
    """Gives an attention module the four quantizers of its two matrix products."""
    add_input_quantizers(module, *MATMULS)
    # values [B, H, T, D]: their channels are those of the context, and of the projection that computes them
    values: Any = module.matmul_v_input_quantizer
    values.calibrate_channels((1, 3))


def add_residual_quantizers(module: nn.Module, prefix: str = "") -> None:
    """Gives a module the two quantizers of one residual add."""
    add_input_quantizers(module, f"{prefix}add_local", f"{prefix}add_residual")


def quantized_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (context [B, S, H, D], probabilities [B, H, S, T]) of scaled dot-product attention, eager form.

    query [B, H, S, D]; key, value [B, H, T, D]. The scaling multiplies the query before it is quantized: a
    multiplication between the product and the softmax would keep an int8 engine from fusing the block.
    """
    scaling = query.size(-1) ** -0.5 if scaling is None else scaling
    scores = torch.matmul(
        module.matmul_q_input_quantizer(query if scaling == 1 else query * scaling),
        module.matmul_k_input_quantizer(key).transpose(2, 3),
    )
    if attention_mask is not None:
        scores = scores + attention_mask
    probabilities = F.softmax(scores, dim=-1)
    probabilities = F.dropout(probabilities, p=dropout, training=module.training)
    context = torch.matmul(module.matmul_a_input_quantizer(probabilities), module.matmul_v_input_quantizer(value))
    return context.transpose(1, 2).contiguous(), probabilities


def register_attention() -> None:
    """Makes `config._attn_implementation = ATTENTION` select `quantized_attention` in transformers."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, eager_mask

    AttentionInterface.register(ATTENTION, quantized_attention)
    AttentionMaskInterface.register(ATTENTION, eager_mask)
