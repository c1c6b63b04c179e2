"""Exact float rewrites of BERT: the same function of the same input, up to float rounding, in fewer operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bert.modeling_bert import (
    BertAttention,
    BertForMultipleChoice,
    BertForNextSentencePrediction,
    BertForSequenceClassification,
    BertModel,
    BertSelfAttention,
    eager_attention_forward,
)

POOLED = (BertForSequenceClassification, BertForNextSentencePrediction, BertForMultipleChoice)  # all read the pooler


class FirstTokenSelfAttention(BertSelfAttention):
    """BertSelfAttention with only the first token's query, and every token's key and value."""

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        # hidden_states [B, S, H] -> [B, 1, H]
        heads = (hidden_states.shape[0], -1, self.num_attention_heads, self.attention_head_size)
        query = self.query(hidden_states[:, :1]).view(heads).transpose(1, 2)
        key, value = (project(hidden_states).view(heads).transpose(1, 2) for project in (self.key, self.value))
        attend: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        mask = None if attention_mask is None else attention_mask[:, :, :1]  # [B, 1, S or 1, S]: the first query's
        context, weights = attend(
            self, query, key, value, mask, dropout=self.dropout.p if self.training else 0.0, scaling=self.scaling
        )
        return context.reshape(hidden_states.shape[0], 1, self.all_head_size), weights


class FirstTokenAttention(BertAttention):
    """BertAttention whose residual add takes only the first token."""

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        context, weights = self.self(hidden_states, attention_mask)
        return self.output(context, hidden_states[:, :1]), weights


def attend_from_first_token(model: nn.Module) -> nn.Module:
    """Returns a model that gives the pooler's output, or a POOLED head on it, whose last layer computes the first token
    only; other models are unchanged.

    The pooler reads only that token of the last layer, which needs the others as keys and values alone: its query,
    output and feed-forward layers, 5/6 of the layer's products, are needed for one token of S.
    """
    base: Any = model.bert if isinstance(model, POOLED) else model
    if isinstance(model, POOLED) or (isinstance(model, BertModel) and model.pooler is not None):
        last = base.encoder.layer[-1]
        last.attention.__class__ = FirstTokenAttention
        last.attention.self.__class__ = FirstTokenSelfAttention
    return model
