"""How a sentence encoder pools its tokens into one vector, as sentence-transformers stores it with the checkpoint.

Without its files (modules.json, 1_Pooling/config.json) a BertModel's tokens are averaged.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.checkpoint.reading import read_json
from pipeline.errors import InputError

FILE = "pooling.json"  # in the artifact folder: {"mode": …}
MODES = ("cls", "mean", "max", "mean_sqrt_len_tokens")
LEGACY = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
FOLLOWED = ("Transformer", "Pooling", "Normalize")  # modules; Normalize changes no cosine


def mode(folder: Path) -> str:
    """Returns one of MODES for an artifact folder or a checkpoint. Raises InputError for other modes."""
    if (folder / FILE).exists():
        return str(_json(folder / FILE)["mode"])
    return of_checkpoint(folder)


def of_checkpoint(folder: Path) -> str:
    """Returns the checkpoint's mode. Raises InputError naming a module, mode or prompt that is not followed here."""
    above, own = folder.parent / "modules.json", folder / "modules.json"
    if above.exists() and not own.exists() and any(module["path"] == folder.name for module in _json(above)):
        raise InputError(f"{folder} is one module of {above}, which says how to pool: copy its files beside that.")
    modules = _json(own) if own.exists() else []
    kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
    if others := [kind for kind in kinds if kind not in FOLLOWED]:
        raise InputError(f"{own} has {', '.join(others)} behind the encoder: not followed here.")
    about = folder / "config_sentence_transformers.json"
    if about.exists() and (prompt := _json(about).get("default_prompt_name")):
        raise InputError(f"{about}: the default prompt {prompt!r} would be put before every text: not followed here.")
    about = folder / "sentence_bert_config.json"
    if about.exists() and _json(about).get("do_lower_case"):
        raise InputError(f"{about} has do_lower_case = true, beside the tokenizer's own: not followed here.")
    path = folder / next((m["path"] for m, kind in zip(modules, kinds, strict=True) if kind == "Pooling"), "1_Pooling")
    if not (path / "config.json").exists():
        if "Pooling" in kinds:
            raise InputError(f"{path / 'config.json'} is missing: how tokens become one vector is not known.")
        return "mean"
    return _mode(path / "config.json")


def pool(hidden: np.ndarray, mask: np.ndarray, mode: str) -> np.ndarray:
    """Returns one vector per text [N, H] from hidden states [N, S, H] and the mask of real tokens [N, S].

    As in sentence-transformers; `mean_sqrt_len_tokens` is the sum over the root of the number of tokens.
    """
    real = mask[:, :, None]
    if mode == "cls":
        return np.asarray(hidden[:, 0])
    if mode == "max":
        return np.asarray(np.where(real != 0, hidden, -np.inf).max(1))
    total, count = (hidden * real).sum(1), real.sum(1)
    return np.asarray(total / (np.sqrt(count) if mode == "mean_sqrt_len_tokens" else count))


def _mode(path: Path) -> str:
    config = _json(path)
    modes: Any = config.get("pooling_mode", [name for key, name in LEGACY.items() if config.get(key)])
    names = [modes] if isinstance(modes, str) else list(modes)
    if len(names) != 1 or names[0] not in MODES:
        asked = " and ".join(map(str, names)) or "none"
        raise InputError(f"{path} asks for the pooling {asked}; one of {', '.join(MODES)} is followed here.")
    return str(names[0])


def _json(path: Path) -> Any:
    value = read_json(path)
    expected: Callable[[Any], bool] = (
        (lambda x: isinstance(x, list) and all(isinstance(m, dict) and {"type", "path"} <= set(m) for m in x))
        if path.name == "modules.json"
        else (lambda x: isinstance(x, dict))
    )
    if not expected(value):
        raise InputError(f"{path} is not of the form that sentence-transformers writes.")
    return value
