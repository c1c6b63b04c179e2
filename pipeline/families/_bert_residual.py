"""BERT's two residual adds with QDQBERT's quantizers on both inputs."""

from __future__ import annotations

import torch
from transformers.models.bert.modeling_bert import BertOutput, BertSelfOutput

from pipeline.quantization.modules import add_residual_quantizers


class _QuantResidual:
    """LayerNorm(Q(dense(h)) + Q(x)), shared by the two output blocks."""

    def add_quantizers(self) -> None:
        add_residual_quantizers(self)  # type: ignore[arg-type]

    def forward(self, hidden_states: torch.Tensor, input_tensor: torch.Tensor) -> torch.Tensor:
        # hidden_states [B, S, K], input_tensor [B, S, H]
        branch = self.dropout(self.dense(hidden_states))  # type: ignore[attr-defined]
        total = self.add_local_input_quantizer(branch) + self.add_residual_input_quantizer(input_tensor)  # type: ignore[attr-defined]
        return self.LayerNorm(total)  # type: ignore[attr-defined,no-any-return]


class QuantBertSelfOutput(_QuantResidual, BertSelfOutput):
    """The add after attention."""


class QuantBertOutput(_QuantResidual, BertOutput):
    """The add after the feed-forward block."""
