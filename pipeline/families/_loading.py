"""Loads a checkpoint whole or not at all."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.checkpoint import weights
from pipeline.checkpoint.reading import without_computing
from pipeline.errors import InputError, near_names

if TYPE_CHECKING:
    from torch import nn


def from_pretrained(
    folder: Path,
    architecture: str,
    config: dict[str, Any],
    unused: tuple[str, ...] = (),
    ignored: tuple[str, ...] = (),
) -> nn.Module:
    """Returns the float model in evaluation mode.

    unused: prefixes of weights that the file may lack; ignored: patterns of weights in the file that the model has no
    place for. Raises InputError for any other weight that is missing (transformers would draw it at random) or left
    over (it would be dropped), for wrong shapes, and for whatever transformers refuses.
    """
    model, report = _load(folder, architecture, without_computing(config))
    if report["mismatched_keys"]:
        name, stored, expected = min(report["mismatched_keys"])
        raise InputError(
            f"checkpoint {folder} does not load as {architecture}: {len(report['mismatched_keys'])} weights do not "
            f"have the shape that config.json gives, the first is {name!r}, {list(stored)} instead of {list(expected)}."
        )
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(unused))
    left = sorted(n for n in report["unexpected_keys"] if not any(fnmatchcase(n, pattern) for pattern in ignored))
    if missing:
        others = f" It has others, like {left[0]!r}." if left else ""
        raise InputError(
            f"checkpoint {folder} lacks {len(missing)} weights of {architecture}, the first is {missing[0]!r}.{others} "
            "Does it have another head, not fine-tuned for this task?"
        )
    if left:
        raise InputError(
            f"checkpoint {folder} has {len(left)} weights that {architecture} has no place for, the first is "
            f"{left[0]!r}: without them it is another model. Does config.json describe fewer or other layers?"
        )
    return model.eval()


def _load(folder: Path, architecture: str, settings: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """Returns the model and what transformers says about its weights."""
    import transformers
    from transformers.activations import ACT2FN

    if settings["hidden_act"] not in ACT2FN:
        raise InputError(
            f"checkpoint {folder}: hidden_act = {settings['hidden_act']!r} is unknown to transformers."
            f"{near_names(settings['hidden_act'], ACT2FN)}"
        )
    model_class = getattr(transformers, architecture)
    try:
        model, report = model_class.from_pretrained(
            folder,
            config=model_class.config_class.from_dict(settings),
            use_safetensors=True,
            trust_remote_code=False,
            dtype="float32",
            key_mapping=weights.renaming(folder),
            ignore_mismatched_sizes=True,  # the caller names them
            output_loading_info=True,
        )
    except MemoryError:
        raise
    except Exception as error:
        message = " ".join(str(error).split())[:300] or "no message"
        raise InputError(
            f"checkpoint {folder} does not load as {architecture}: transformers says {type(error).__name__}: {message}"
        ) from error
    return model, report
