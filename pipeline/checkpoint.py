"""Finding a checkpoint and proving that it can be used, before anything heavy is imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import InputError, near_names

EMBEDDED = Path(__file__).parent / "checkpoints"
COUNTERS = ("position_ids", "num_batches_tracked")  # buffers, which are integers by right
PATIENCE = 5  # seconds that the hub may take to answer


def resolve(checkpoint: str | None, embedded: str) -> Path:
    """Returns the checkpoint's folder: a directory, a hub id (local cache first, then the hub), or the embedded one.

    Raises InputError that names CHECKPOINT= and the cache when there is none.
    """
    if checkpoint is None:
        return EMBEDDED / embedded
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise InputError(
            f"CHECKPOINT={checkpoint} is a file; give the folder that holds config.json and model.safetensors."
        )
    if checkpoint.count("/") != 1 or checkpoint.startswith((".", "/", "~")):
        raise InputError(
            f"CHECKPOINT={checkpoint}: there is no such folder, and it is not a hub id of the form owner/name."
        )
    return _from_hub(checkpoint)


def _from_hub(hub_id: str) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors", "*.txt"]  # never pickles, never code
    try:
        return Path(snapshot_download(hub_id, allow_patterns=wanted, local_files_only=True))
    except HFValidationError as error:
        raise InputError(f"CHECKPOINT={hub_id} is not a valid hub id: {error}") from error
    except LocalEntryNotFoundError:
        pass
    reason = "offline mode is on (HF_HUB_OFFLINE)"
    if not constants.HF_HUB_OFFLINE:
        try:
            HfApi().model_info(hub_id, timeout=PATIENCE)  # snapshot_download itself waits without end for an answer
            return Path(snapshot_download(hub_id, allow_patterns=wanted, etag_timeout=PATIENCE))
        except Exception as error:  # noqa: BLE001  its HTTP library's classes change from release to release
            reason = f"the hub did not serve it ({type(error).__name__})"
    raise InputError(
        f"CHECKPOINT={hub_id}: not in the local cache {constants.HF_HUB_CACHE}, and {reason}. "
        f"Give CHECKPOINT= a folder with config.json and model.safetensors, or fill the cache where there is a network."
    )


def read_config(folder: Path) -> dict[str, Any]:
    """Returns the checkpoint's config.json."""
    path = folder / "config.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"checkpoint {folder} has no config.json.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold a JSON object, found {type(value).__name__}.")
    return value


def check_whole(folder: Path, config: dict[str, Any]) -> None:
    """Raises InputError for a folder whose model is more than config.json and model.safetensors say.

    An adapter beside the base model, or weights that a quantizer stored in a form of its own, would be left out.
    """
    if (folder / "adapter_config.json").exists():
        raise InputError(
            f"checkpoint {folder} holds an adapter (adapter_config.json), which is not read here: merge it into the "
            "model (merge_and_unload of peft) and save that."
        )
    if config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "a quantizer of its own")
        raise InputError(
            f"checkpoint {folder} is quantized already ({method}); give the float checkpoint that it was made from."
        )


def task_of(config: dict[str, Any], tasks: dict[str, str], family: str, model_type: str) -> tuple[str, str]:
    """Returns (architecture, task) of a checkpoint. Raises InputError when it is of another family."""
    names = config.get("architectures") or []
    for name in names:
        if name in tasks:
            return name, tasks[name]
    found = ", ".join(names) or f"model_type {config.get('model_type')!r}"
    hint = "" if config.get("model_type") == model_type else f" Its model_type is {config.get('model_type')!r}."
    raise InputError(
        f"the checkpoint is {found}, which the family {family!r} cannot take.{hint}"
        f"{near_names(names[0] if names else '', tasks)}"
    )


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
    pickles = sorted(p.name for p in folder.glob("*.bin")) + sorted(p.name for p in folder.glob("*.pt*"))
    advice = (
        f" Found {', '.join(pickles)}: pickles can run code and are not read; convert them to safetensors."
        if pickles
        else ""
    )
    raise InputError(f"checkpoint {folder} has no model.safetensors.{advice}")


def _shards(index: Path) -> list[str]:
    try:
        return sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index} is not an index of safetensors files: {error!r}.") from error


def check_weights(folder: Path) -> None:
    """Reads every weight once. Raises InputError for truncated files, for NaN or infinite values, and for integers."""
    from safetensors import SafetensorError, safe_open

    bad: list[str] = []
    integers: list[str] = []
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118  not a dict
                    if tensors.get_slice(name).get_dtype()[0] in "IU" and not name.endswith(COUNTERS):
                        integers.append(name)
                    elif not _finite(tensors, name):
                        bad.append(name)
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as safetensors, it may be truncated: {error}.") from error
    if integers:
        raise InputError(
            f"checkpoint {folder} stores {len(integers)} weights as integers, the first is {integers[0]!r}: it is "
            "quantized already, and their scales are not read here. Give the float checkpoint that it was made from."
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
