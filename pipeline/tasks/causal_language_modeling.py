"""Causal language modelling: the next token of a text, read from those before it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.tasks import Arrays, _defaults, _text, _tokens
from pipeline.tasks._heads import Head

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pipeline.recipe import Recipe

HEADS = (Head("LMHeadModel", ("logits",)),)
METRIC, AGREEMENT, SAMPLES = _tokens.METRIC, _tokens.AGREEMENT, _tokens.SAMPLES

agreement = _tokens.agreement
chance = _tokens.chance
examples = _tokens.examples
further = _tokens.further
judged = _tokens.judged
metric = _tokens.metric
per_class = _defaults.per_class
predict = _tokens.predict
reference_labels = _defaults.reference_labels
samples = _tokens.samples
score = _tokens.score
settings = _defaults.settings
tally = _tokens.tally
unjudgeable = _tokens.unjudgeable
unseen = _defaults.unseen


def encode(folder: Path, recipe: Recipe, samples: list[str]) -> tuple[Arrays, Arrays]:
    """Returns inputs [N, S] and labels; `label` [N, S] is the token that follows, IGNORED where none does."""
    tokenizer = _text.tokenizer(folder, recipe.shapes.sequence_length)
    return _labelled(tokenizer, folder, samples, _text.encode(tokenizer, samples))


def _labelled(tokenizer: Tokenizer, folder: Path, texts: list[str], inputs: Arrays) -> tuple[Arrays, Arrays]:
    label = np.full(inputs["input_ids"].shape, _tokens.IGNORED)
    follows = inputs["attention_mask"][:, 1:] != 0
    label[:, :-1][follows] = inputs["input_ids"][:, 1:][follows]
    return inputs, _tokens.labels_of(tokenizer, folder, texts, label)


def own_encoding(folder: Path, recipe: Recipe, samples: list[str]) -> Arrays:
    """Returns the inputs that the checkpoint's own tokenizer makes."""
    return _text.own_encoding(folder, recipe.shapes.sequence_length, samples)


def preprocess(folder: Path, raw: Any, recipe: Recipe) -> tuple[Arrays, Arrays]:
    """Returns engine inputs for a text or a list of texts to be continued."""
    texts, tokenizer = _text.texts_of(raw), _text.tokenizer(folder, recipe.shapes.sequence_length)
    encoded, special = _text.encode_special(tokenizer, texts)
    inputs, labels = _labelled(tokenizer, folder, texts, encoded)
    return inputs, {**labels, "last": np.array([_last(row) for row in special])}


def _last(special: np.ndarray) -> int:
    """Returns the place of a text's last own token: it does not see the [SEP] behind it. 0 for a text without any."""
    return int(np.flatnonzero(special == 0)[-1]) if (special == 0).any() else 0


def postprocess(folder: Path, outputs: Arrays, labels: Arrays) -> list[list[dict[str, Any]]]:
    """Returns of every text {token, score} of the likeliest next tokens, best first."""
    rows = zip(outputs["logits"], labels["last"], strict=True)
    return [_tokens.likeliest(logits[last], labels) for logits, last in rows]
