"""Finds a checkpoint and proves that it can be used, before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.checkpoint import weights
from pipeline.errors import InputError, near_names

EMBEDDED = Path(__file__).parents[1] / "checkpoints"
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
            f"CHECKPOINT={checkpoint} is a file; give the folder that holds config.json and model.safetensors"
            + (f", {path.parent}." if (path.parent / "config.json").exists() else ".")
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
            HfApi().model_info(hub_id, timeout=PATIENCE)  # snapshot_download itself waits for ever
            return Path(snapshot_download(hub_id, allow_patterns=wanted, etag_timeout=PATIENCE))
        except Exception as error:  # noqa: BLE001  the HTTP library's classes change between releases
            reason = f"the hub did not serve it ({type(error).__name__})"
    raise InputError(
        f"CHECKPOINT={hub_id}: not in the local cache {constants.HF_HUB_CACHE}, and {reason}. "
        f"Give CHECKPOINT= a folder with config.json and model.safetensors, or fill the cache where there is a network."
    )


def check_whole(folder: Path, config: dict[str, Any]) -> None:
    """Raises InputError for a folder whose model is more than config.json and model.safetensors.

    An adapter beside the base model, or the scales of quantized weights, would be ignored.
    """
    if (folder / "adapter_config.json").exists():
        raise InputError(
            f"checkpoint {folder} holds an adapter (adapter_config.json), which is not read here: merge it into the "
            "model (merge_and_unload of peft) and save that."
        )
    quantization = config.get("quantization_config") or config.get("compression_config")
    if quantization:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
        raise InputError(
            f"checkpoint {folder} is quantized already ({method or 'a quantizer of its own'}); give the float "
            "checkpoint that it was made from."
        )


def task_of(config: dict[str, Any], tasks: Mapping[str, str], family: str, model_type: str) -> tuple[str, str]:
    """Returns (architecture, task) of a checkpoint. Raises InputError when it belongs to another family."""
    names, kind = config.get("architectures") or [], config.get("model_type")
    for name in names:
        if name in tasks and kind in (None, model_type):
            return name, tasks[name]
    hint = "" if kind == model_type else f" Its model_type is {kind!r}, not {model_type!r}."
    known = "" if set(names) & set(tasks) else near_names(names[0] if names else "", tasks)
    described = ", ".join(names) or f"model_type {kind!r}"
    raise InputError(f"the checkpoint is {described}, which the family {family!r} cannot take.{hint}{known}")


def architecture_in(folder: Path, heads: Mapping[str, tuple[str, ...]]) -> str:
    """Returns the architecture of a checkpoint whose config.json names none, inferred from the names of its weights.

    heads: {prefix of a weight's name: the architectures that have such weights}, the first match counts. Raises
    InputError naming the architectures where several are possible.
    """
    stored = weights.names(folder)
    skipped = len(weights.wrapper(stored))
    prefix = next((start for start in heads if any(name[skipped:].startswith(start) for name in stored)), None)
    possible = heads[prefix] if prefix else sorted({name for names in heads.values() for name in names})
    if prefix and len(possible) == 1:
        return possible[0]
    evidence = f"weights {prefix}* fit" if prefix else "weights do not tell; it may be"
    raise InputError(
        f"{folder / 'config.json'} names no architecture, and its {evidence} {' or '.join(possible)}. Add the right "
        f'one to it: "architectures": ["{possible[0]}"].'
    )
