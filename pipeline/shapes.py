"""Checkpoints of published shapes with random weights, for measuring speed where no trained one is at hand.

Speed does not depend on the values of the weights; accuracy does, so it means nothing here and no table shows it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.checkpoint import EMBEDDED
from pipeline.errors import InputError, near_names

SEED = 0


@dataclass(frozen=True)
class Shape:
    """One published configuration."""

    family: str
    architecture: str
    config: dict[str, Any]


SHAPES = {
    "bert-base": Shape("bert", "BertForQuestionAnswering", {}),  # the library's defaults: 12 layers, 768 wide
    "segformer-b0": Shape("segformer", "SegformerForSemanticSegmentation", {}),  # the defaults again
    "segformer-b2": Shape(
        "segformer",
        "SegformerForSemanticSegmentation",
        {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 4, 6, 3], "decoder_hidden_size": 768},
    ),
}
CLASSES = 150  # ADE20K


def get(name: str) -> Shape:
    """Returns one shape. Raises InputError with the near names."""
    if name not in SHAPES:
        raise InputError(f"unknown shape {name!r}.{near_names(name, SHAPES)}")
    return SHAPES[name]


def write_checkpoint(name: str, folder: Path) -> Path:
    """Returns `folder` with a randomly initialized checkpoint of the shape, and the data set data/ for segmentation."""
    import torch
    import transformers

    shape = get(name)
    torch.manual_seed(SEED)
    if shape.family == "bert":
        config = transformers.BertConfig(**shape.config)
        copied: tuple[str, ...] = ("tokenizer.json", "tokenizer_config.json")
    else:
        labels = {i: f"class {i}" for i in range(CLASSES)}
        config = transformers.SegformerConfig(
            **shape.config, id2label=labels, label2id={v: k for k, v in labels.items()}
        )
        copied = ("preprocessor_config.json",)
    model = getattr(transformers, shape.architecture)(config)
    model.save_pretrained(folder)
    for file in copied:
        shutil.copyfile(EMBEDDED / shape.family / file, folder / file)
    return folder


def write_data(name: str, folder: Path, count: int) -> Path | None:
    """Returns a folder of scenes for a segmentation shape, whose classes are not the generator's; None for text."""
    if get(name).family != "segformer":
        return None
    from calibration import scenes
    from calibration.seeds import CALIBRATION_SEED

    scenes.write_scenes(folder, range(CALIBRATION_SEED, CALIBRATION_SEED + count), 512)
    (folder / "note.json").write_text(json.dumps({"classes": "the drawn scenes'"}), encoding="utf-8")
    return folder
