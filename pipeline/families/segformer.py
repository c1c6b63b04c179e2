"""SegFormer (Xie et al. 2021, arXiv:2105.15203): hierarchical encoder; all-MLP decode head, or a label per image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import field_validator, model_validator

from pipeline.checkpoint.image_size import ImageSize
from pipeline.errors import InputError
from pipeline.families._config import Count, Layers, Settings
from pipeline.families._engine_inputs import Limits

if TYPE_CHECKING:
    from torch import nn

    from pipeline.recipe import Recipe

MODEL_TYPE = "segformer"
CLASSIFIER = "SegformerForImageClassification"
TASKS = {"SegformerForSemanticSegmentation": "semantic-segmentation", CLASSIFIER: "image-classification"}
INPUTS = ("pixel_values",)
OUTPUTS = {"semantic-segmentation": ("logits",), "image-classification": ("logits",)}
HEADS = ("decode_head.classifier", "classifier")
COPIED = ("config.json", "preprocessor_config.json")
SETTINGS: dict[str, Any] = {"calibration.batch_size": 4}
WEIGHTS = {
    "decode_head.": ("SegformerForSemanticSegmentation",),
    "classifier.": (CLASSIFIER,),
    "stages.": ("SegformerModel",),
    "encoder.": ("SegformerModel",),
}


class CONFIG(Settings):
    """Stages of attention over an image of three channels, as SegformerConfig describes them."""

    num_channels: Count = 3
    num_encoder_blocks: Layers = 4
    depths: Sequence[Layers] = (2, 2, 2, 2)
    sr_ratios: Sequence[Count] = (8, 4, 2, 1)
    hidden_sizes: Sequence[Count] = (32, 64, 160, 256)
    patch_sizes: Sequence[Count] = (7, 3, 3, 3)
    strides: Sequence[Count] = (4, 2, 2, 2)
    num_attention_heads: Sequence[Count] = (1, 2, 5, 8)
    mlp_ratios: Sequence[Count] = (4, 4, 4, 4)
    decoder_hidden_size: Count = 256
    reshape_last_stage: bool = True
    hidden_act: str = "gelu"

    @field_validator("num_channels")
    @classmethod
    def _colours(cls, value: int) -> int:
        if value != 3:
            raise ValueError("an image here has 3 channels, red, green and blue")
        return value

    @model_validator(mode="after")
    def _fits(self) -> CONFIG:
        for name, values in self:
            if isinstance(values, list | tuple) and len(values) != self.num_encoder_blocks:
                raise ValueError(f"{name} = {list(values)} must have {self.num_encoder_blocks} numbers, one per stage")
        for width, heads in zip(self.hidden_sizes, self.num_attention_heads, strict=True):
            if width < heads:
                raise ValueError(f"hidden_sizes has {width}, fewer than its {heads} attention heads")
        return self


def check(config: dict[str, Any], recipe: Recipe) -> None:
    """Raises InputError for an image size that the engine cannot take.

    The strides must divide both sides, no stage's map may be smaller than its reduction, and the decode head must be
    able to reshape the last stage.
    """
    total, size = math.prod(config["strides"]), recipe.shapes.image_size
    assert size is not None, "made definite by loading.sized"
    if any(side % total for side in size):
        low, high = (ImageSize(*sides) for sides in zip(*(_multiples(side, total) for side in size), strict=True))
        raise InputError(
            f"shapes.image_size = {size} is not a multiple of {total}, the product of the checkpoint's strides; "
            f"the nearest sizes are {low} and {high}. (Where the recipe names none, it is that of "
            "the checkpoint's preprocessor_config.json.)"
        )
    sides = list(size)
    for stage, (patch, stride, ratio) in enumerate(
        zip(config["patch_sizes"], config["strides"], config["sr_ratios"], strict=True)
    ):
        # of a convolution padded by half its kernel
        sides = [(side + patch // 2 * 2 - patch) // stride + 1 for side in sides]
        if min(sides) < ratio:
            raise InputError(
                f"shapes.image_size = {size} leaves stage {stage} a map of {sides[0]}×{sides[1]}, smaller than its "
                f"reduction by {ratio} (sr_ratios of config.json); give a larger size."
            )
    # when a decode head of transformers reshapes the sequence, it takes the root of the last stage's channels for its
    # height; a classifier of images has no such head
    side, segments = math.isqrt(config["hidden_sizes"][-1]), CLASSIFIER not in (config.get("architectures") or ())
    if segments and not config["reshape_last_stage"] and size != (side * total, side * total):
        raise InputError(
            f"shapes.image_size = {size}: a checkpoint with reshape_last_stage = false and these widths runs only at "
            f"{side * total}."
        )


def _multiples(side: int, of: int) -> tuple[int, int]:
    """Returns the nearest multiples that a side can be cut or grown to; equal ones where it is one."""
    return max(side // of, 1) * of, -(-side // of) * of


def load(folder: Path, architecture: str, config: dict[str, Any], outputs: tuple[str, ...]) -> nn.Module:
    """Returns the float model in evaluation mode."""
    from pipeline.families._loading import from_pretrained

    return from_pretrained(folder, architecture, config)


def rewrites() -> dict[str, Callable[[nn.Module], nn.Module]]:
    """Returns the exact float rewrites, in the order they are applied."""
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

    from pipeline.families._segformer_residual import QuantSegformerLayer, QuantSummedDecodeHead
    from pipeline.families._segformer_rewrites import SummedDecodeHead
    from pipeline.quantization import insert_quantizers as insert

    adds = {hf.SegformerLayer: QuantSegformerLayer, SummedDecodeHead: QuantSummedDecodeHead}
    return insert(model, attention=hf.SegformerAttention, residual=adds)


def input_limits(config: dict[str, Any], recipe: Recipe) -> dict[str, Limits]:
    """Returns the limits of an engine's input, pixel_values [B, C, H, W]."""
    size = recipe.shapes.image_size
    assert size is not None, "made definite by loading.sized"
    return {"pixel_values": Limits(("batch", int(config.get("num_channels", 3)), *size))}


def dynamic_axes(inputs: Mapping[str, Any]) -> dict[str, dict[int, str]]:
    """Returns the batch as the dynamic axis of pixel_values [B, 3, H, W]."""
    return {"pixel_values": {0: "batch"}}
