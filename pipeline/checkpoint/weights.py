"""The weights of a checkpoint, in safetensors only: which files hold them, and whether every value can be used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.checkpoint.reading import instead, is_pointer, pointer_message, read_object
from pipeline.errors import InputError

FLOATS = ("F64", "F32", "F16", "BF16")  # safetensors' names
COUNTERS = ("position_ids", "num_batches_tracked")  # buffers, rightly integers
WRAPPERS = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before every name
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
OTHERS = (".h5", ".msgpack", ".onnx", ".gguf")


def weight_files(folder: Path) -> list[Path]:
    """Returns the checkpoint's safetensors files. Raises InputError naming what is there instead."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        return [single]
    if index.exists():
        names = _shards(index)
        unsafe = [n for n in names if Path(n).name != n]
        missing = [n for n in names if not (folder / n).exists()]
        if unsafe or missing:
            raise InputError(f"{index} names {unsafe or missing}, which are not files of the folder.")
        return [folder / n for n in names]
    raise InputError(f"checkpoint {folder} has no model.safetensors.{_stored_instead(folder)}")


def _stored_instead(folder: Path) -> str:
    """Returns what a folder without model.safetensors has for weights, and what to do with it."""
    files = [p.name for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith(".")]
    if others := [name for name in files if name.endswith(".safetensors")]:
        return f" Found {', '.join(others)}: transformers reads model.safetensors; rename the one that is the model."
    if pickles := [name for name in files if name.endswith(PICKLES)]:
        return (
            f" Found {', '.join(pickles)}: pickles can run code and are not read; convert them to safetensors where "
            "you trust them: from_pretrained() of the class that config.json names, then save_pretrained(), which "
            "writes model.safetensors."
        )
    if others := [name for name in files if name.endswith(OTHERS)]:
        return f" Found {', '.join(others)}: only safetensors are read; save the PyTorch model with save_pretrained()."
    return instead(folder)


def _shards(index: Path) -> list[str]:
    table = read_object(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise InputError(f"{index} is not an index of safetensors files: it has no weight_map of names to files.")
    return sorted({str(name) for name in table.values()})


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yields an open safetensors file. Raises InputError for one that cannot be read."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"{path} is a folder, expected a safetensors file.")
    if is_pointer(path):
        raise InputError(pointer_message(path))
    try:
        with safe_open(path, framework="numpy") as tensors:
            yield tensors
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as safetensors, it may be truncated: {error}.") from error


def names(folder: Path) -> list[str]:
    """Returns the name of every weight, as it is stored."""
    stored: list[str] = []
    for path in weight_files(folder):
        with _opened(path) as tensors:
            stored += tensors.keys()
    return stored


def wrapper(stored: list[str]) -> str:
    """Returns what DataParallel or torch.compile put before all of these names, "" for nothing."""
    prefix = ""
    while stored and (more := [w for w in WRAPPERS if all(name.startswith(prefix + w) for name in stored)]):
        prefix += more[0]
    return prefix


def renaming(folder: Path) -> dict[str, str] | None:
    """Returns {pattern: replacement} that gives the weights the names they had before they were wrapped, or None."""
    prefix = wrapper(names(folder))
    return {f"^{re.escape(prefix)}": ""} if prefix else None


def check_weights(folder: Path) -> None:
    """Reads every weight once. Raises InputError for truncated files, NaN, infinite values and non-float types."""
    bad: list[str] = []
    quantized: dict[str, str] = {}
    for path in weight_files(folder):
        with _opened(path) as tensors:
            for name in tensors.keys():  # noqa: SIM118  not a dict
                kind = tensors.get_slice(name).get_dtype()
                if kind not in FLOATS and not name.endswith(COUNTERS):
                    quantized[name] = "integers" if kind[0] in "IU" else kind
                elif not _finite(tensors, name):
                    bad.append(name)
    if quantized:
        raise InputError(
            f"checkpoint {folder} stores {len(quantized)} weights as {' and '.join(sorted(set(quantized.values())))}, "
            f"the first is {next(iter(quantized))!r}: it is quantized already, and their scales are not read here. "
            "Give the float checkpoint that it was made from."
        )
    if bad:
        raise InputError(
            f"checkpoint {folder} has NaN or infinite values in {len(bad)} weights, the first is {bad[0]!r}: "
            f"training diverged or the file was damaged."
        )


def _finite(tensors: Any, name: str) -> bool:
    try:
        value = tensors.get_tensor(name)
    except TypeError:  # numpy has no bfloat16; transformers checks those after loading
        return True
    return value.dtype.kind != "f" or bool(np.isfinite(value).all())
