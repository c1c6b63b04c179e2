"""SegFormer (Xie et al. 2021, arXiv:2105.15203): hierarchical encoder, all-MLP decode head."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.engine_inputs import Limits
from pipeline.errors import InputError
from pipeline.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

MODEL_TYPE = "segformer"
TASKS = {"SegformerForSemanticSegmentation": "semantic-segmentation"}
INPUTS = ("pixel_values",)
OUTPUTS = {"semantic-segmentation": ("logits",)}
HEADS = ("decode_head.classifier",)
COPIED = ("config.json", "preprocessor_config.json")
SETTINGS: dict[str, Any] = {"calibration.batch_size": 4}


def check(config: dict[str, Any], recipe: Recipe) -> None:
    """Raises InputError for an image size that the strides do not divide, or that the decode head cannot reshape."""
    total = 1
    for stride in config.get("strides", [4, 2, 2, 2]):
        total *= stride
    size = recipe.shapes.image_size
    if size % total:
        low = size // total * total
        raise InputError(
            f"shapes.image_size = {size} is not a multiple of {total}, the product of the checkpoint's strides; "
            f"the nearest sizes are {max(low, total)} and {low + total}."
        )
    # transformers takes the root of the last stage's channels for its height when it reshapes the sequence
    side = math.isqrt(config.get("hidden_sizes", [32, 64, 160, 256])[-1])
    if config.get("reshape_last_stage") is False and size != side * total:
        raise InputError(
            f"shapes.image_size = {size}: a checkpoint with reshape_last_stage = false and these widths runs only at "
            f"{side * total}."
        )


def load(folder: Path, architecture: str) -> nn.Module:
    """Returns the float model in evaluation mode."""
    from pipeline.families._loading import from_pretrained

    return from_pretrained(folder, architecture)


def rewrites() -> dict[str, Callable[[nn.Module], nn.Module]]:
    """Returns the exact float rewrites, in the order of their application."""
    from transformers.models.segformer.modeling_segformer import SegformerAttention

    from pipeline.families import _segformer_rewrites as exact
    from pipeline.families._rewrites import fold_attention_scale

    return {
        "summed_decode_head": exact.sum_decode_head,
        "convolutional_mix_ffn": exact.convolve_mix_ffn,
        "folded_attention_scale": fold_attention_scale(SegformerAttention, "q_proj"),
    }


def insert_quantizers(model: nn.Module) -> nn.Module:
    """Returns the model with quantizers at linear and convolution inputs and weights, attention and adds."""
    from transformers.models.segformer import modeling_segformer as hf

    from pipeline.families._segformer_rewrites import SummedDecodeHead
    from pipeline.quantization import insert_quantizers as insert
    from pipeline.quantization.segformer_residual import QuantSegformerLayer, QuantSummedDecodeHead

    adds = {hf.SegformerLayer: QuantSegformerLayer, SummedDecodeHead: QuantSummedDecodeHead}
    return insert(model, attention=hf.SegformerAttention, residual=adds)


def input_limits(config: dict[str, Any], recipe: Recipe) -> dict[str, Limits]:
    """Returns what an engine of the checkpoint may be fed: pixel_values [B, C, S, S]."""
    size = recipe.shapes.image_size
    return {"pixel_values": Limits(("batch", int(config.get("num_channels", 3)), size, size))}


def dynamic_axes(inputs: tuple[str, ...]) -> dict[str, dict[int, str]]:
    """Returns the batch as the dynamic axis of pixel_values [B, 3, H, W]."""
    return {"pixel_values": {0: "batch"}}
