"""Exact float rewrites of SegFormer: the same function of the same input, up to float rounding, in fewer operations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.segformer.modeling_segformer import SegformerDecodeHead, SegformerMixMLP


class SummedDecodeHead(nn.Module):
    """relu(Σᵢ upsample(convᵢ(stageᵢ)) + b), then the classifier.

    The original head projects every stage to D channels, upsamples, concatenates and mixes 4·D channels by a 1×1
    convolution with batch norm. Bilinear upsampling acts on each channel alone and its weights sum to one, so it
    commutes with a 1×1 convolution; the mixing matrix splits by stage and multiplies into each projection, and batch
    norm in evaluation mode is an affine map:

        convᵢ.weight = diag(γ/σ) · Fᵢ · Pᵢ        [D, Cᵢ]
        b            = γ/σ · (Σᵢ Fᵢ·pᵢ − μ) + β   [D], carried by the finest stage, which is not upsampled
    """

    def __init__(self, head: SegformerDecodeHead) -> None:
        super().__init__()
        self.config = head.config
        norm = head.batch_norm
        gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        width = head.config.decoder_hidden_size
        # torch.cat runs from the coarsest stage to the finest: the first D columns belong to the last stage
        blocks = head.linear_fuse.weight.double()[:, :, 0, 0].split(width, dim=1)[::-1]
        offset = norm.bias.double() - gain * norm.running_mean.double()
        self.projections = nn.ModuleList()
        for projection, fuse in zip(head.linear_projections, blocks, strict=True):
            linear = projection.proj
            conv = nn.Conv2d(linear.in_features, width, 1, bias=not len(self.projections))
            weight = gain[:, None] * (fuse @ linear.weight.double())
            conv.weight.data = weight[:, :, None, None].float()
            offset = offset + gain * (fuse @ linear.bias.double())
            self.projections.append(conv)
        self.projections[0].bias.data = offset.float()
        self.activation = head.activation
        self.dropout = head.dropout
        self.classifier = head.classifier

    def forward(self, encoder_hidden_states: tuple[torch.Tensor, ...], **kwargs: object) -> torch.Tensor:
        # stage i: [B, Cᵢ, H/2^(i+2), W/2^(i+2)] -> logits [B, classes, H/4, W/4]
        first, *rest = encoder_hidden_states
        total = self.projections[0](first)
        for i, stage in enumerate(rest, start=1):
            projected = self.projections[i](stage)
            upsampled = F.interpolate(projected, size=first.shape[2:], mode="bilinear", align_corners=False)
            total = total + self.upsampled(i, upsampled)
        return self.classifier(self.dropout(self.activation(total)))  # type: ignore[no-any-return]

    def upsampled(self, stage: int, x: torch.Tensor) -> torch.Tensor:
        """Returns what a coarser stage adds, [B, D, H/4, W/4]; the quantized head rounds it."""
        return x


def sum_decode_head(model: nn.Module) -> nn.Module:
    """Returns the model with `SummedDecodeHead`, a classifier of images, which has no such head, unchanged.

    So is a model whose `reshape_last_stage` is false: its head gets the last stage as a sequence.
    """
    if model.config.reshape_last_stage and hasattr(model, "decode_head"):  # type: ignore[union-attr]
        model.decode_head = SummedDecodeHead(model.decode_head).eval()  # type: ignore[arg-type]
    return model


class ConvolutionalMixFFN(nn.Module):
    """MixFFN kept in channels-first layout: its two linear layers are 1×1 convolutions.

    fc1 → 3×3 depthwise → GELU → fc2 then needs one transpose at either end instead of one around every operator.
    """

    def __init__(self, mlp: SegformerMixMLP) -> None:
        super().__init__()
        self.fc1, self.fc2 = _as_convolution(mlp.fc1), _as_convolution(mlp.fc2)
        self.dwconv = mlp.dwconv.dwconv
        self.activation_fn = mlp.activation_fn
        self.dropout = mlp.dropout

    def forward(self, hidden_states: torch.Tensor, height: int, width: int) -> torch.Tensor:
        # hidden_states [B, H·W, C]
        x = hidden_states.transpose(1, 2).unflatten(2, (height, width))
        x = self.dropout(self.activation_fn(self.dwconv(self.fc1(x))))
        return self.dropout(self.fc2(x)).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


def _as_convolution(linear: nn.Linear) -> nn.Conv2d:
    conv = nn.Conv2d(linear.in_features, linear.out_features, 1, bias=linear.bias is not None)
    conv.weight.data = linear.weight.data[:, :, None, None]
    if linear.bias is not None:
        conv.bias = linear.bias
    return conv


def convolve_mix_ffn(model: nn.Module) -> nn.Module:
    """Returns the model with every MixFFN replaced by `ConvolutionalMixFFN`."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, SegformerMixMLP):
                setattr(module, name, ConvolutionalMixFFN(child).train(child.training))
    return model
