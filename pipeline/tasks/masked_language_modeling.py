"""Masked language modelling (Devlin et al. 2018, arXiv:1810.04805): the tokens behind [MASK], read from both sides.

A share of a text's tokens is masked, the same ones in every run of a recipe: by its seed and the text itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.checkpoint.reading import read_object
from pipeline.errors import InputError
from pipeline.tasks import Arrays, _defaults, _text, _tokens
from pipeline.tasks._heads import Head

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pipeline.recipe import Recipe

HEADS = (Head("ForMaskedLM", ("logits",)),)
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

SHARE = 0.15  # of a text's tokens, as in training; one at least
MASK = "[MASK]"  # where tokenizer_config.json names no other


def encode(folder: Path, recipe: Recipe, samples: list[str]) -> tuple[Arrays, Arrays]:
    """Returns inputs [N, S] with masked tokens, and labels; `label` [N, S] is the token behind each mask."""
    tokenizer = _tokenizer(folder, recipe)
    inputs, special = _text.encode_special(tokenizer, samples)
    ids, label = masked(inputs["input_ids"], special, samples, _mask_id(tokenizer, folder), recipe.seed)
    return {**inputs, "input_ids": ids}, _tokens.labels_of(tokenizer, folder, samples, label)


def own_encoding(folder: Path, recipe: Recipe, samples: list[str]) -> Arrays:
    """Returns the inputs that the checkpoint's own tokenizer makes, the same tokens masked."""
    from transformers import AutoTokenizer

    inputs = _text.own_encoding(folder, recipe.shapes.sequence_length, samples, special=True)
    own = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    ids, _ = masked(inputs["input_ids"], inputs.pop("special"), samples, own.mask_token_id, recipe.seed)
    return {**inputs, "input_ids": ids}


def masked(
    ids: np.ndarray, special: np.ndarray, texts: Sequence[str], mask: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids [N, S] with a SHARE of each text's tokens masked, and the ids that were there, IGNORED elsewhere.

    special: 1 at tokens that are never masked. Which are depends on the seed, the text and its length alone, so that a
    text has the same masks alone and among others.
    """
    given, label = ids.copy(), np.full(ids.shape, _tokens.IGNORED)
    for row, (text, fixed) in enumerate(zip(texts, special, strict=True)):
        free = np.flatnonzero(fixed == 0)
        if not len(free):
            continue
        rng = np.random.default_rng([seed, zlib.crc32(text.encode("utf-8"))])
        at = rng.choice(free, max(1, round(SHARE * len(free))), replace=False)
        label[row, at] = ids[row, at]
        given[row, at] = mask
    return given, label


def _tokenizer(folder: Path, recipe: Recipe) -> Tokenizer:
    return _text.tokenizer(folder, recipe.shapes.sequence_length)


def _mask_token(folder: Path) -> str:
    path = folder / "tokenizer_config.json"
    token = read_object(path).get("mask_token") if path.exists() else None
    return str((token.get("content") if isinstance(token, dict) else token) or MASK)


def _mask_id(tokenizer: Tokenizer, folder: Path) -> int:
    token = _mask_token(folder)
    found = tokenizer.token_to_id(token)
    if found is None:
        raise InputError(f"the tokenizer of {folder} has no token {token!r} to mask others with.")
    return int(found)


def preprocess(folder: Path, raw: Any, recipe: Recipe) -> tuple[Arrays, Arrays]:
    """Returns engine inputs for a text or a list of texts that hold [MASK]."""
    texts, tokenizer = _text.texts_of(raw), _tokenizer(folder, recipe)
    mask = _mask_id(tokenizer, folder)
    tokenizer.add_special_tokens([_mask_token(folder)])  # a tokenizer.json need not say that it is whole
    inputs = _text.encode(tokenizer, texts)
    masks = inputs["input_ids"] == mask
    if not masks.any(1).all():
        without = texts[int(np.argmin(masks.any(1)))]
        raise InputError(f"the engine fills {_mask_token(folder)} in; {without[:80]!r} has none.")
    return inputs, _tokens.labels_of(tokenizer, folder, texts, np.where(masks, mask, _tokens.IGNORED))


def postprocess(folder: Path, outputs: Arrays, labels: Arrays) -> list[list[list[dict[str, Any]]]]:
    """Returns of every text and mask {token, score} of the likeliest tokens, best first."""
    return [
        [_tokens.likeliest(logits, labels) for logits in row[label != _tokens.IGNORED]]
        for row, label in zip(outputs["logits"], labels["label"], strict=True)
    ]
