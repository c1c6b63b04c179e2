"""SegFormer's two residual adds a layer, with quantizers on both inputs of each."""

from __future__ import annotations

from typing import Any

import torch
from transformers.models.segformer.modeling_segformer import SegformerLayer

from pipeline.quantization.modules import add_residual_quantizers


class QuantSegformerLayer(SegformerLayer):
    """SegformerLayer whose adds read quantized tensors."""

    def add_quantizers(self) -> None:
        for block in ("attention_", "mlp_"):
            add_residual_quantizers(self, block)

    def forward(self, hidden_states: torch.Tensor, height: int, width: int, **kwargs: Any) -> torch.Tensor:
        # hidden_states [B, H·W, C]
        branch, _ = self.attention(self.layernorm_before(hidden_states), height, width, **kwargs)
        branch = self.drop_path(self.hidden_dropout(branch))
        hidden_states = self.attention_add_local_input_quantizer(branch) + self.attention_add_residual_input_quantizer(
            hidden_states
        )
        branch = self.drop_path(self.mlp(self.layernorm_after(hidden_states), height, width))
        return self.mlp_add_local_input_quantizer(branch) + self.mlp_add_residual_input_quantizer(hidden_states)
