"""Checkpoints of published shapes with random weights, for measuring speed where no trained one is at hand.

Speed does not depend on the values of the weights; accuracy does, and means nothing here. Closeness to the float
outputs does mean something: that an engine computes its model.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.checkpoint import EMBEDDED
from pipeline.errors import InputError, near_names
from pipeline.recipe import Recipe

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
WEIGHTS = {"segformer": "variance 1/fan-in"}  # in config.json where they are not the library's: what they were drawn by
SAMPLES = 24  # to calibrate, and as many others to check outputs on


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
            **shape.config, id2label=labels, label2id={v: k for k, v in labels.items()}, weights=WEIGHTS["segformer"]
        )
        copied = ("preprocessor_config.json",)
    model = getattr(transformers, shape.architecture)(config)
    if shape.family == "segformer":
        scale_by_fan_in(model)
    model.save_pretrained(folder)
    for file in copied:
        shutil.copyfile(EMBEDDED / shape.family / file, folder / file)
    return folder


def scale_by_fan_in(model: Any) -> None:
    """Draws every linear and convolution weight again, with variance 1/fan-in, so that every layer shows in the output.

    The library's standard deviation of 0.02 leaves almost nothing of SegFormer's narrow branches beside the residual:
    with every depthwise convolution negated the outputs keep a cosine above 0.999, and a wrong engine passes for right.
    """
    import torch

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
                module.weight.normal_(0, module.weight[0].numel() ** -0.5)


def write_data(name: str, folder: Path, count: int) -> Path | None:
    """Returns a folder of scenes for a segmentation shape, whose classes are not the generator's; None for text."""
    if get(name).family != "segformer":
        return None
    from calibration.samples import scenes
    from calibration.samples.seeds import CALIBRATION_SEED

    note = folder / "note.json"  # written last: with it, the scenes are all there
    if not note.exists() or len(list((folder / "images").iterdir())) != count:
        scenes.write_scenes(folder, range(CALIBRATION_SEED, CALIBRATION_SEED + count), 512)
        note.write_text(json.dumps({"classes": "the drawn scenes'"}), encoding="utf-8")
    return folder


def folder(name: str) -> Path:
    """Returns where the checkpoint, the data and the engines of a shape lie."""
    return Path("exports") / f"bench-{name}"


def up_to_date(name: str, checkpoint: Path) -> bool:
    """Returns whether a folder holds a shape's checkpoint with weights as they are drawn now."""
    if not (checkpoint / "model.safetensors").exists():
        return False
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    return bool(config.get("weights") == WEIGHTS.get(get(name).family))


def settings(name: str, root: Path, calibration: int = SAMPLES) -> dict[str, Any]:
    """Returns the recipe settings of a shape; its checkpoint and data are written to `root` when they are not there.

    calibration: samples to calibrate on.
    """
    checkpoint = root / "checkpoint"
    if not up_to_date(name, checkpoint):
        write_checkpoint(name, checkpoint)
    data = write_data(name, root / ("data" if calibration == SAMPLES else f"data-{calibration}"), calibration + SAMPLES)
    return {
        "checkpoint": str(checkpoint),
        "data": str(data) if data else None,
        "calibration.samples": calibration,
        "verification.samples": SAMPLES,
    }


def recipe(
    name: str, output: Path | None, more: Mapping[str, Any], family: str | None = None, calibration: int = SAMPLES
) -> Recipe:
    """Returns the recipe of a shape with `more` settings, its checkpoint and data made.

    output: where they and the artifacts lie, None for the shape's own folder. family: whose the shape must be, None for
    any. Raises InputError for a shape that does not exist or is another's.
    """
    shape, root = get(name), output or folder(name)
    if family not in (None, shape.family):
        raise InputError(f"the shape {name} is a {shape.family}, not a {family}.")
    return Recipe.load(shape.family, overrides={"folder": root, **settings(name, root, calibration), **more})


def built(made: Recipe, announce: Callable[[str], None], wanted: Sequence[str] | None = None) -> Recipe:
    """Returns the recipe of the last backend after building for each that is wanted, by default all that work here."""
    from pipeline import backends
    from pipeline.stages.build import build

    for backend in wanted or backends.usable():
        made = made.on_backend(backend)
        build(made, announce=announce)
    return made
