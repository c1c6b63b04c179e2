"""SegFormer's adds with quantizers on their inputs: two residual adds per layer, and the rewritten head's sum."""

from __future__ import annotations

from typing import Any

import torch
from transformers.models.segformer.modeling_segformer import SegformerLayer

from pipeline.families._segformer_rewrites import SummedDecodeHead
from pipeline.quantization.modules import add_input_quantizers, add_residual_quantizers


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


class QuantSummedDecodeHead(SummedDecodeHead):
    """SummedDecodeHead that adds the coarser stages quantized.

    The upsampled maps are the largest tensors of the model, [B, D, H/4, W/4] each: in float, writing and reading them
    takes longer than the products that make them. The finest stage's product stays float: it is not upsampled, and
    OpenVINO would copy it from int8 back to float before the sum.
    """

    def add_quantizers(self) -> None:
        for stage in range(1, len(self.projections)):
            add_input_quantizers(self, f"sum_{stage}")

    def upsampled(self, stage: int, x: torch.Tensor) -> torch.Tensor:
        return getattr(self, f"sum_{stage}_input_quantizer")(x)  # type: ignore[no-any-return]
