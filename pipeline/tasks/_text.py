"""Tokenizes with the checkpoint's own tokenizer.json, and as transformers does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import InputError
from pipeline.tasks import _files
from pipeline.tasks._files import check_text

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer


Text = str | tuple[str, str]  # or a pair, which the model sees as one input


def tokenizer(folder: Path, length: int, *, pair: bool = False, stride: int = 0) -> Tokenizer:
    """Returns the folder's tokenizer, cutting and padding to `length` tokens.

    pair: only the second text is cut, into windows that overlap by `stride` tokens.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.exists():
        raise InputError(f"{folder} has no tokenizer.json: text cannot be encoded.")
    result = Tokenizer.from_file(str(path))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    padding = config.get("pad_token_id") or 0
    result.enable_truncation(length, strategy="only_second" if pair else "longest_first", stride=stride)
    result.enable_padding(length=length, pad_id=padding, pad_token=result.id_to_token(padding) or "[PAD]")
    return result


def arrays(encodings: Sequence[Encoding]) -> dict[str, np.ndarray]:
    """Returns input_ids, attention_mask and token_type_ids, int64 [N, S] each."""
    return {
        "input_ids": np.array([e.ids for e in encodings], dtype=np.int64),
        "attention_mask": np.array([e.attention_mask for e in encodings], dtype=np.int64),
        "token_type_ids": np.array([e.type_ids for e in encodings], dtype=np.int64),
    }


def encode(tokenizer: Tokenizer, texts: Sequence[Text]) -> dict[str, np.ndarray]:
    """Returns the inputs for texts. Raises InputError naming one that no tokenizer can read."""
    return arrays(_encodings(tokenizer, texts))


def _encodings(tokenizer: Tokenizer, texts: Sequence[Text]) -> list[Encoding]:
    for number, text in enumerate(texts, 1):
        for part in text if isinstance(text, tuple) else (text,):
            check_text(part, f"text {number} of {len(texts)}")
    return list(tokenizer.encode_batch(list(texts)))


def encode_special(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns the inputs for texts as `encode` does, and 1 at tokens that the tokenizer added, padding too, [N, S]."""
    encodings = _encodings(tokenizer, texts)
    return arrays(encodings), np.array([e.special_tokens_mask for e in encodings], dtype=np.int64)


def encode_words(tokenizer: Tokenizer, texts: Sequence[Sequence[str]]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns the inputs for texts that come as words, and the number of the word that starts at a token, -1 where
    none does, int64 [N, S].

    Raises InputError naming a word that no tokenizer can read.
    """
    for number, words in enumerate(texts, 1):
        for word in words:
            check_text(word, f"a word of text {number} of {len(texts)}")
    encodings = tokenizer.encode_batch([list(words) for words in texts], is_pretokenized=True)
    if any(encoding.overflowing for encoding in encodings):
        _files.say_once(
            f"texts of more than {len(encodings[0].ids)} tokens are cut: their last words get no label and are not "
            "judged. shapes.sequence_length takes more."
        )
    starts = [
        [-1 if word is None or word == before else word for before, word in zip([None, *ids], ids, strict=False)]
        for ids in (encoding.word_ids for encoding in encodings)
    ]
    return arrays(encodings), np.array(starts, dtype=np.int64)


def texts_of(raw: Any) -> list[str]:
    """Returns an engine's raw input as a list of texts. Raises InputError for anything but a text or texts."""
    texts = [raw] if isinstance(raw, str) else raw
    if not isinstance(texts, list | tuple) or not texts:
        raise InputError(f"the engine takes a text or a list of texts, found {type(raw).__name__}.")
    return list(texts)


def texts_or_pairs_of(raw: Any) -> list[Text]:
    """Returns an engine's raw input as a list of texts or pairs, {"text": …, "text_pair": …} as in transformers."""
    return [_text_or_pair(one) for one in texts_of([raw] if isinstance(raw, dict) else raw)]


def _text_or_pair(one: Any) -> Text:
    if not isinstance(one, dict):
        return one  # type: ignore[no-any-return]  # `encode` says what is no text
    if not {"text"} <= set(one) <= {"text", "text_pair"}:
        raise InputError(f'the engine takes texts, or pairs {{"text": …, "text_pair": …}}; found keys {list(one)}.')
    return (one["text"], one["text_pair"]) if len(one) > 1 else one["text"]


def shown(text: Text) -> str:
    """Returns a text, or both of a pair, as a report shows them."""
    return text if isinstance(text, str) else " | ".join(text)


def sentences(split: str, count: int) -> list[str]:
    """Returns `count` different sentences of the generated passages of one split."""
    from calibration.samples import passages
    from calibration.samples.seeds import BY_SPLIT

    seed = BY_SPLIT[split]
    distinct: dict[str, None] = {}
    while len(distinct) < count:
        for article in passages.generate_squad(seed, count)["data"]:
            for paragraph in article["paragraphs"]:
                distinct.update(dict.fromkeys(s.strip(" .") for s in paragraph["context"].split(". ") if s.strip(" .")))
        seed += 1
    return list(distinct)[:count]


def passages(split: str, count: int) -> list[list[str]]:
    """Returns the sentences of generated passages of one split, so many that there are `count` pairs of neighbours."""
    from calibration.samples import passages as generator
    from calibration.samples.seeds import BY_SPLIT

    seed, found, pairs = BY_SPLIT[split], {}, 0
    while pairs < count:
        for article in generator.generate_squad(seed, count)["data"]:
            for paragraph in article["paragraphs"]:
                parts = [s.strip(" .") + "." for s in paragraph["context"].split(". ") if s.strip(" .")]
                pairs += 0 if paragraph["context"] in found else len(parts) - 1
                found[paragraph["context"]] = parts
        seed += 1
    return list(found.values())


def own_encoding(
    folder: Path,
    length: int,
    texts: Sequence[Text] | Sequence[list[str]],
    *,
    stride: int | None = None,
    special: bool = False,
) -> dict[str, np.ndarray]:
    """Returns what transformers' tokenizer for the checkpoint makes of texts, of pairs or of lists of words; as
    `arrays`.

    stride: only the second text of a pair is cut, into windows that share so many tokens. special: adds `special`, 1 at
    tokens that the tokenizer added. A tokenizer without token types means 0 for all, as BERT then assumes.
    """
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    cut: dict[str, Any] = {"padding": "max_length", "max_length": length, "truncation": True}
    if stride is not None:
        cut |= {"truncation": "only_second", "stride": stride, "return_overflowing_tokens": True}
    if special:
        cut["return_special_tokens_mask"] = True
    if any(isinstance(text, list) for text in texts):
        cut["is_split_into_words"] = True
    pairs = [text for text in texts if isinstance(text, tuple)]
    columns = zip(*pairs, strict=True) if pairs else [texts]
    encoded = own(*map(list, columns), **cut)
    ids = np.array(encoded["input_ids"], dtype=np.int64)
    return {
        "input_ids": ids,
        "attention_mask": np.array(encoded["attention_mask"], dtype=np.int64),
        "token_type_ids": np.array(encoded.get("token_type_ids", np.zeros_like(ids)), dtype=np.int64),
        **({"special": np.array(encoded["special_tokens_mask"], dtype=np.int64)} if special else {}),
    }
