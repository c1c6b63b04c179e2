"""Tokenizing with the checkpoint's own tokenizer.json, and reading text files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer


def tokenizer(folder: Path, length: int, *, pair: bool = False, stride: int = 0) -> Tokenizer:
    """Returns the folder's tokenizer, cutting and padding to `length` tokens.

    With `pair` only the second text is cut, into windows that overlap by `stride` tokens.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.exists():
        raise InputError(f"{folder} has no tokenizer.json: text cannot be encoded.")
    found = Tokenizer.from_file(str(path))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    padding = config.get("pad_token_id") or 0
    found.enable_truncation(length, strategy="only_second" if pair else "longest_first", stride=stride)
    found.enable_padding(length=length, pad_id=padding, pad_token=found.id_to_token(padding) or "[PAD]")
    return found


def arrays(encodings: Sequence[Encoding]) -> dict[str, np.ndarray]:
    """Returns input_ids, attention_mask and token_type_ids, int64 [N, S] each."""
    return {
        "input_ids": np.array([e.ids for e in encodings], dtype=np.int64),
        "attention_mask": np.array([e.attention_mask for e in encodings], dtype=np.int64),
        "token_type_ids": np.array([e.type_ids for e in encodings], dtype=np.int64),
    }


def read_table(path: Path) -> list[dict[str, Any]]:
    """Returns the rows {text, label | None} of a TSV (text, label) or JSONL ({"text", "label"}) file.

    Raises InputError naming the file and the line.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"data {path} cannot be read as UTF-8 text: {error}.") from error
    lines = [line for line in content.split("\n") if line.strip()]  # splitlines would split inside a text, at U+2028
    if not lines:
        raise InputError(f"data {path} is empty.")
    if path.suffix.lower() in (".jsonl", ".json"):
        return [_json_row(path, number, line) for number, line in enumerate(lines, 1)]
    rows = [line.split("\t") for line in lines]
    if rows[0][:1] in (["text"], ["sentence"]):
        rows = rows[1:]
    return [{"text": row[0], "label": row[1] if len(row) > 1 else None} for row in rows]


def _json_row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if not isinstance(row["text"], str):
            raise TypeError(f"text is {type(row['text']).__name__}, not a string")
        return {"text": row["text"], "label": row.get("label")}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f'{path} line {number}: expected one JSON object a line, {{"text": …, "label": …}}: {error}.'
        ) from error


def sentences(split: str, count: int) -> list[str]:
    """Returns `count` different sentences of the generated passages of one split."""
    from calibration import passages
    from calibration.seeds import BY_SPLIT

    seed = BY_SPLIT[split]
    found: dict[str, None] = {}
    while len(found) < count:
        for article in passages.generate_squad(seed, count)["data"]:
            for paragraph in article["paragraphs"]:
                found.update(dict.fromkeys(s.strip(" .") for s in paragraph["context"].split(". ") if s.strip(" .")))
        seed += 1
    return list(found)[:count]


def own_encoding(
    folder: Path, length: int, texts: Sequence[str], contexts: Sequence[str] | None = None, stride: int = 0
) -> dict[str, np.ndarray]:
    """Returns what the checkpoint's own tokenizer makes of texts, or pairs with contexts, in transformers; as `arrays`.

    Needs transformers. A tokenizer that gives no token types means 0 for all, as BERT then takes.
    """
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    cut: dict[str, Any] = {"padding": "max_length", "max_length": length, "truncation": True}
    if contexts is not None:
        cut |= {"truncation": "only_second", "stride": stride, "return_overflowing_tokens": True}
    found = own(list(texts), *([] if contexts is None else [list(contexts)]), **cut)
    ids = np.array(found["input_ids"], dtype=np.int64)
    return {
        "input_ids": ids,
        "attention_mask": np.array(found["attention_mask"], dtype=np.int64),
        "token_type_ids": np.array(found.get("token_type_ids", np.zeros_like(ids)), dtype=np.int64),
    }
