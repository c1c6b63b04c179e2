"""BERT (Devlin et al. 2018, arXiv:1810.04805) with QDQBERT's quantizer placement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator, model_validator

from pipeline.errors import InputError
from pipeline.families._config import Count, Layers, Settings
from pipeline.families._engine_inputs import Limits
from pipeline.tasks import _heads

if TYPE_CHECKING:
    from torch import nn

    from pipeline.recipe import Recipe

MODEL_TYPE = "bert"
TASKS = _heads.of_family("Bert")
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUTS = _heads.outputs()
AXES = {2: _heads.TEXT, 3: ("batch", "choices", "sequence")}
# What checkpoints carry that these models never read: the heads of pretraining, a pooler, a buffer of older versions.
IGNORED = ("cls.*", "pooler.*", "bert.pooler.*", "*embeddings.position_ids")
# The projection to a whole vocabulary is none: it takes a large share of the time, as other linear layers do.
HEADS = ("qa_outputs", "classifier", "cls.seq_relationship")
DECODER = "BertLMHeadModel"
COPIED = ("config.json", "tokenizer.json", "tokenizer_config.json")
SETTINGS: dict[str, Any] = {}
WEIGHTS = {
    "qa_outputs.": ("BertForQuestionAnswering",),
    "classifier.": ("BertForSequenceClassification", "BertForTokenClassification", "BertForMultipleChoice"),
    "cls.": ("BertForMaskedLM", "BertLMHeadModel", "BertForNextSentencePrediction"),
    "embeddings.": ("BertModel",),
}


class CONFIG(Settings):
    """An encoder, as BertConfig describes it."""

    vocab_size: Count = 30522
    hidden_size: Count = 768
    num_hidden_layers: Layers = 12
    num_attention_heads: Count = 12
    intermediate_size: Count = 3072
    max_position_embeddings: Count = 512
    type_vocab_size: Count = 2
    pad_token_id: Annotated[int, Field(ge=0)] | None = 0
    hidden_act: str = "gelu"
    is_decoder: bool = False
    add_cross_attention: bool = False
    architectures: list[str] | None = None

    @field_validator("add_cross_attention")
    @classmethod
    def _alone(cls, value: bool) -> bool:
        if value:
            raise ValueError("a decoder that attends to an encoder is not supported: there is no input for it here")
        return value

    @model_validator(mode="after")
    def _fits(self) -> CONFIG:
        named = self.architectures or []
        if self.is_decoder and named and DECODER not in named:
            raise ValueError(
                f"is_decoder = True, but {named[0]} is no {DECODER}: only a language model attends to earlier tokens "
                "alone"
            )
        if DECODER in named and not self.is_decoder:
            raise ValueError(
                f"is_decoder = False: every token of this {DECODER} sees the ones that it predicts; a model trained "
                "to fill masks in is a BertForMaskedLM"
            )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size = {self.hidden_size} is not a multiple of num_attention_heads = "
                f"{self.num_attention_heads}"
            )
        if self.pad_token_id is not None and self.pad_token_id >= self.vocab_size:
            raise ValueError(f"pad_token_id = {self.pad_token_id}, but vocab_size = {self.vocab_size}")
        return self


def check(config: dict[str, Any], recipe: Recipe) -> None:
    """Raises InputError when the sequence is longer than the position table."""
    longest = config["max_position_embeddings"]
    if recipe.shapes.sequence_length > longest:
        raise InputError(
            f"shapes.sequence_length = {recipe.shapes.sequence_length} is more than the checkpoint's "
            f"{longest} positions."
        )


def load(folder: Path, architecture: str, config: dict[str, Any], outputs: tuple[str, ...]) -> nn.Module:
    """Returns the float model in evaluation mode."""
    from pipeline.families._loading import from_pretrained

    pooled = "pooler_output" in outputs
    model: Any = from_pretrained(folder, architecture, config, unused=() if pooled else ("pooler.",), ignored=IGNORED)
    if architecture == "BertModel" and not pooled:
        del model.pooler  # nothing that is asked for reads it
        model.register_module("pooler", None)
    model.config.use_cache = False  # of keys and values, which a decoder would return
    model.config.output_hidden_states = any(name.startswith("hidden_states_") for name in outputs)
    return model


def rewrites() -> dict[str, Callable[[nn.Module], nn.Module]]:
    """Returns the exact float rewrites, in the order they are applied."""
    from transformers.models.bert.modeling_bert import BertSelfAttention

    from pipeline.families._bert_rewrites import attend_from_first_token
    from pipeline.families._rewrites import fold_attention_scale

    return {
        "last_layer_of_first_token": attend_from_first_token,
        "folded_attention_scale": fold_attention_scale(BertSelfAttention, "query"),
    }


def insert_quantizers(model: nn.Module) -> nn.Module:
    """Returns the model with quantizers at embeddings, linear inputs and weights, attention and residual adds."""
    from transformers.models.bert import modeling_bert as hf

    from pipeline.families._bert_residual import QuantBertOutput, QuantBertSelfOutput
    from pipeline.quantization import insert_quantizers as insert

    return insert(
        model,
        attention=hf.BertSelfAttention,
        residual={hf.BertSelfOutput: QuantBertSelfOutput, hf.BertOutput: QuantBertOutput},
    )


def input_limits(config: dict[str, Any], recipe: Recipe) -> dict[str, Limits]:
    """Returns the limits of an engine's inputs, [B, S] or [B, choices, S] each; BERT's defaults where config.json has
    none.
    """
    shape = _heads.axes_of(config)
    most = {"sequence": int(config.get("max_position_embeddings", 512))}
    ends = {"input_ids": config.get("vocab_size", 30522), "attention_mask": 2}
    ends["token_type_ids"] = config.get("type_vocab_size", 2)
    return {name: Limits(shape, 0, int(end), most) for name, end in ends.items()}


def dynamic_axes(inputs: Mapping[str, Any]) -> dict[str, dict[int, str]]:
    """Returns all axes of every input as dynamic, batch, sequence, and choices between them where there are three."""
    return {name: dict(enumerate(AXES[value.ndim])) for name, value in inputs.items()}
