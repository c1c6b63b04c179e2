"""Loading a checkpoint whole or not at all."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import InputError

if TYPE_CHECKING:
    from torch import nn


def from_pretrained(
    folder: Path, architecture: str, unused: tuple[str, ...] = (), ignored: tuple[str, ...] = ()
) -> nn.Module:
    """Returns the float model in evaluation mode.

    unused: prefixes of weights that the file may lack; ignored: patterns of weights in the file that the model has no
    place for. Raises InputError for any other that is missing, which transformers would make up at random, or left
    over, which it would drop: the model is then another than its owner's.
    """
    import transformers

    model, report = getattr(transformers, architecture).from_pretrained(
        folder, use_safetensors=True, trust_remote_code=False, dtype="float32", output_loading_info=True
    )
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(unused))
    if missing:
        raise InputError(
            f"checkpoint {folder} lacks {len(missing)} weights of {architecture}, the first is {missing[0]!r}. "
            f"Is it the checkpoint of another head, not fine-tuned for this task?"
        )
    left = sorted(n for n in report["unexpected_keys"] if not any(fnmatchcase(n, pattern) for pattern in ignored))
    if left:
        raise InputError(
            f"checkpoint {folder} has {len(left)} weights that {architecture} has no place for, the first is "
            f"{left[0]!r}: without them it is another model. Does config.json name fewer layers, or another kind of "
            "them?"
        )
    return model.eval()  # type: ignore[no-any-return]
