"""Reads the small files of a checkpoint: an error names the file, what it holds, and what to do.

A byte-order mark is dropped and a list of labels becomes the table that transformers writes; a Git LFS pointer, a
folder and invalid JSON are refused.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import InputError

CONFIG = "config.json"
# what transformers reads for a BERT or SegFormer besides the weights
OBJECTS = (
    CONFIG, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "preprocessor_config.json", "processor_config.json",
)  # fmt: skip
TEXTS = ("vocab.txt",)
# How a model runs and what it returns, not what it computes: transformers' defaults apply, whatever was stored.
# Feed-forward layers in chunks of tokens give the same sums.
COMPUTING = (
    "attn_implementation", "_attn_implementation", "chunk_size_feed_forward", "dtype", "torch_dtype",
    "gradient_checkpointing", "output_attentions", "output_hidden_states", "return_dict", "torchscript",
    "use_return_dict",
)  # fmt: skip
MARK = b"\xef\xbb\xbf"  # before UTF-8, as some editors on Windows save it
POINTER = b"version https://git-lfs"
LARGEST = 1024  # bytes of a pointer
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def content(path: Path) -> bytes:
    """Returns a file's bytes without a byte-order mark. Raises InputError for a pointer or an unreadable file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    if data.startswith(POINTER):
        raise InputError(pointer_message(path))
    return data.removeprefix(MARK)


def is_pointer(path: Path) -> bool:
    """Returns whether a file is only the note that Git LFS leaves until the content is fetched."""
    if not path.is_file() or path.stat().st_size > LARGEST:
        return False
    with path.open("rb") as stream:
        return stream.read(len(POINTER)) == POINTER


def pointer_message(path: Path) -> str:
    return (
        f"{path} is a Git LFS pointer: the file itself was not fetched. Run `git lfs pull` in {path.parent} "
        "(after `git lfs install`, where Git has no LFS yet)."
    )


def read_json(path: Path) -> Any:
    """Returns the value in a JSON file."""
    data = content(path)
    if not data.strip():
        raise InputError(f"{path} is empty.")
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}. Save it as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}.") from error


def read_object(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold a JSON object, found {type(value).__name__}.")
    return value


def read_config(folder: Path) -> dict[str, Any]:
    """Returns the checkpoint's config.json, its labels as a table {"0": name, …}."""
    path = folder / CONFIG
    if not path.exists():
        raise InputError(f"checkpoint {folder} has no config.json.{instead(folder)}")
    config = read_object(path)
    names = config.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f'{path}: architectures must be a list of class names, ["…"], found {names!r}.')
    if isinstance(config.get("id2label"), list):
        config["id2label"] = {str(index): name for index, name in enumerate(config["id2label"])}
        config["label2id"] = {name: int(index) for index, name in config["id2label"].items() if isinstance(name, str)}
    if config.get("id2label") is not None:
        _check_labels(path, config["id2label"], config.get("num_labels"))
    return config


def without_computing(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns config.json without the settings that do not change what is computed."""
    return {key: value for key, value in config.items() if key not in COMPUTING}


def _check_labels(path: Path, labels: Any, number: Any) -> None:
    """Raises InputError unless there is exactly one label for each class 0, 1, …"""
    keys = [str(key) for key in labels] if isinstance(labels, dict) else None
    if keys is None or sorted(keys) != sorted(map(str, range(len(keys)))):
        raise InputError(f'{path}: id2label must be {{"0": name, "1": name, …}} or a list of names, found {labels!r}.')
    if others := [name for name in labels.values() if not isinstance(name, str | int | float)]:
        raise InputError(f"{path}: id2label has {others[0]!r} as a name.")
    if number is not None and number != len(keys):
        raise InputError(f"{path}: num_labels = {number!r}, but id2label names {len(keys)}; correct one of them.")


def instead(folder: Path) -> str:
    """Returns what a folder that is not a checkpoint holds: checkpoints, like Trainer's output, or other files."""
    inner = [p.parent for pattern in ("*/config.json", "*/*/config.json") for p in folder.glob(pattern)]
    checkpoints = [p for p in inner if any((p / name).exists() for name in WEIGHTS)]
    if checkpoints and (folder / "modules.json").exists():
        inside = checkpoints[0].relative_to(folder)
        return f" It keeps its model in {inside}: copy the files in there beside modules.json, which says how to pool."
    if checkpoints:
        checkpoints.sort(key=_in_order)
        shown = ", ".join(str(p.relative_to(folder)) for p in checkpoints)
        return f" It holds checkpoints of its own, {shown}: give the one that you want, CHECKPOINT={checkpoints[-1]}."
    names = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    more = f", … ({len(names)} in all)" if len(names) > 8 else ""
    return f" It holds {', '.join(names[:8])}{more}." if names else " It is empty."


def _in_order(path: Path) -> tuple[str, int]:
    """Returns a sorting key by which checkpoint-500 comes before checkpoint-1000."""
    stem, _, number = path.name.rpartition("-")
    return (str(path.parent / stem), int(number)) if number.isdecimal() else (str(path), 0)


def copy(folder: Path, name: str, into: Path) -> None:
    """Copies one of the files in the form it is read here, byte for byte where that is the stored form."""
    path, data = folder / name, content(folder / name)
    if name == CONFIG and (config := read_config(folder)) != read_object(path):
        data = json.dumps(config, indent=2).encode()
    elif name in OBJECTS:
        read_object(path)
    (into / name).write_bytes(data)


@contextmanager
def as_transformers_reads(folder: Path) -> Iterator[Path]:
    """Yields a folder with the checkpoint's small files in the form that transformers takes.

    Raises InputError for the first broken one.
    """
    with tempfile.TemporaryDirectory() as name:
        copies = Path(name)
        for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
            if path.name == CONFIG:
                text = json.dumps(without_computing(read_config(folder)))
                (copies / CONFIG).write_text(text, encoding="utf-8")
            elif path.name in (*OBJECTS, *TEXTS):
                copy(folder, path.name, copies)
            elif path.is_file() and path.suffix not in (".safetensors", ".bin", ".pt", ".pth", ".json"):
                (copies / path.name).symlink_to(path.resolve())
        yield copies
