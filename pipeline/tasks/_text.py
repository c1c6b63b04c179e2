"""Tokenizes with the checkpoint's own tokenizer.json, and reads text files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import InputError
from pipeline.tasks import _entries, _files
from pipeline.tasks._files import check_filled, check_text

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

COLUMNS, LABEL = ("text", "sentence"), "label"  # the names of columns and keys


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


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the inputs for texts. Raises InputError naming one that no tokenizer can read."""
    for number, text in enumerate(texts, 1):
        check_text(text, f"text {number} of {len(texts)}")
    return arrays(tokenizer.encode_batch(list(texts)))


def encode_special(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns the inputs for texts as `encode` does, and 1 at tokens that the tokenizer added, padding too, [N, S]."""
    inputs = encode(tokenizer, texts)
    return inputs, np.array([e.special_tokens_mask for e in tokenizer.encode_batch(list(texts))], dtype=np.int64)


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


def read_table(path: Path) -> list[dict[str, Any]]:
    """Returns the rows {text, label | None} of labelled text: CSV, TSV, JSON or JSON lines.

    Raises InputError naming the file and the line.
    """
    content = _files.read_text(path)
    name = _files.shown(path)
    if _entries.is_json(path, content):
        rows = [(where, *_of_object(entry, f"{name} {where}")) for where, entry in _entries.of_json(path, content)]
    elif path.suffix.lower() == ".csv":
        rows = list(_of_cells(list(_entries.of_csv(path, content)), name, "commas", header=True))
    else:
        cells = [(f"line {number}", line.split("\t")) for number, line in _files.lines(content)]
        rows = list(_of_cells(cells, name, "tabs", header=False))
    if not rows:
        raise InputError(f"data {name} has no rows.")
    return [{"text": check_filled(text, f"{name} {where}: text"), "label": label} for where, text, label in rows]


def read_texts(path: Path) -> list[str]:
    """Returns the texts of a file: its lines that are not blank, or where its name or first line says that it is a
    table or JSON, those of `read_table`.
    """
    content = _files.read_text(path)
    if _entries.is_json(path, content) or path.suffix.lower() in (".csv", ".tsv"):
        return [row["text"] for row in read_table(path)]
    return [check_text(line, f"{_files.shown(path)} line {number}") for number, line in _files.lines(content)]


def _of_object(entry: Any, where: str) -> tuple[Any, Any]:
    """Returns (text, label) of a JSON object."""
    keys = [key for key in COLUMNS if key in entry] if isinstance(entry, dict) else []
    if not keys:
        held = f"keys {', '.join(entry) or 'none'}" if isinstance(entry, dict) else type(entry).__name__
        raise InputError(f'{where}: expected {{"text": …, "label": …}}, found {held}.')
    return entry[keys[0]], entry.get(LABEL)


def _of_cells(
    rows: list[tuple[str, list[str]]], name: str, between: str, *, header: bool
) -> Iterator[tuple[str, str, str | None]]:
    """Yields (where, text, label) of a table's rows, by the names in its first line.

    header: whether it must have such a line; without one the columns are text and label, in this order.
    """
    if not rows:
        return
    names = [cell.strip().lower() for cell in rows[0][1]]
    other = set(re.split("[,;|\t]", names[0])) if len(names) == 1 else set()  # the same, with other separators
    if header or {*COLUMNS, LABEL} & set(names) or (LABEL in other and other & set(COLUMNS)):
        if [names.count(key) for key in COLUMNS if key in names][:1] != [1] or names.count(LABEL) > 1:
            raise InputError(
                f"data {name}: its first line must name one column text (or sentence), and label; it names "
                f"{' | '.join(rows[0][1])}, with {between} between them."
            )
        rows = rows[1:]
    else:
        names = [COLUMNS[0], LABEL]
    at = names.index(next(key for key in COLUMNS if key in names))
    for where, cells in rows:
        if not at < len(cells) <= len(names):
            raise InputError(
                f"data {name} {where} has {len(cells)} columns with {between} between them, expected "
                f"{len(names)}: {', '.join(names)}. Texts that hold {between} need JSON lines or quoted CSV."
            )
        label = names.index(LABEL) if LABEL in names else len(cells)
        yield where, cells[at], cells[label] if label < len(cells) else None


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


def own_encoding(
    folder: Path,
    length: int,
    texts: Sequence[str] | Sequence[list[str]],
    contexts: Sequence[str] | None = None,
    stride: int = 0,
    special: bool = False,
) -> dict[str, np.ndarray]:
    """Returns what transformers' tokenizer for the checkpoint makes of texts, or of pairs with contexts; as `arrays`.

    texts: strings, or lists of words. special: adds `special`, 1 at tokens that the tokenizer added. A tokenizer
    without token types means 0 for all, as BERT then assumes.
    """
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    cut: dict[str, Any] = {"padding": "max_length", "max_length": length, "truncation": True}
    if any(not isinstance(text, str) for text in texts):
        cut["is_split_into_words"] = True
    if contexts is not None:
        cut |= {"truncation": "only_second", "stride": stride, "return_overflowing_tokens": True}
    if special:
        cut["return_special_tokens_mask"] = True
    encoded = own(list(texts), *([] if contexts is None else [list(contexts)]), **cut)
    ids = np.array(encoded["input_ids"], dtype=np.int64)
    return {
        "input_ids": ids,
        "attention_mask": np.array(encoded["attention_mask"], dtype=np.int64),
        "token_type_ids": np.array(encoded.get("token_type_ids", np.zeros_like(ids)), dtype=np.int64),
        **({"special": np.array(encoded["special_tokens_mask"], dtype=np.int64)} if special else {}),
    }
