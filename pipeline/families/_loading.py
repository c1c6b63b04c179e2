"""Loading a checkpoint whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import InputError

if TYPE_CHECKING:
    from torch import nn


def from_pretrained(folder: Path, architecture: str, unused: tuple[str, ...] = ()) -> nn.Module:
    """Returns the float model in evaluation mode.

    unused: prefixes of weights that the file may lack. Raises InputError for any other missing weight: transformers
    would make it up at random and go on.
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
    return model.eval()  # type: ignore[no-any-return]
