"""A checkpoint from a grammar of configs: our float model gives what transformers' own gives, or it is refused.

Every tenth goes through export too, where ONNX Runtime is held against transformers.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campaign.bed import Bed
from helpers import tiny
from pipeline.errors import InputError
from pipeline.model import exactness, loading
from pipeline.stages import build

TRIALS = 200
EXPORTED = 0.1  # share of the checkpoints that are exported

Arrays = dict[str, np.ndarray]
Run = Callable[[Arrays], Arrays]

HEADS = ("BertForQuestionAnswering", "BertForSequenceClassification", "BertModel")
ACTIVATIONS = ("gelu", "relu", "gelu_new", "gelu_pytorch_tanh", "silu", "gelu_fast", "quick_gelu")


def bert(rng: np.random.Generator) -> tuple[str, dict[str, Any]]:
    """Returns an architecture and the settings of its config."""
    heads = int(rng.choice([1, 2, 4]))
    return str(rng.choice(HEADS)), {
        "num_attention_heads": heads,
        "hidden_size": heads * int(rng.choice([4, 8, 12, 16, 24])),
        "num_hidden_layers": int(rng.integers(1, 4)),
        "intermediate_size": int(rng.choice([8, 20, 64, 130])),
        "max_position_embeddings": int(rng.choice([32, 40, 64])),
        "hidden_act": str(rng.choice(ACTIVATIONS)),
        "layer_norm_eps": float(rng.choice([1e-12, 1e-6, 1e-3])),
        "initializer_range": float(rng.choice([0.02, 0.1, 0.5])),
        "type_vocab_size": int(rng.choice([2, 2, 2, 3])),
        "num_labels": int(rng.choice([2, 3, 5])),
        "pad_token_id": int(rng.choice([0, 0, 3])),
        "chunk_size_feed_forward": int(rng.choice([0, 0, 0, 4])),
        "classifier_dropout": [None, 0.1][int(rng.integers(2))],
    }


def segformer(rng: np.random.Generator) -> dict[str, Any]:
    """Returns the settings of a config."""
    heads = [int(rng.choice([1, 2])) for _ in range(4)]
    return {
        "num_attention_heads": heads,
        "hidden_sizes": [h * int(rng.choice([8, 12, 16])) for h in heads],
        "depths": [int(rng.integers(1, 3)) for _ in range(4)],
        "sr_ratios": [int(rng.choice(ratios)) for ratios in ([1, 2, 4, 8], [1, 2, 4], [1, 2, 2, 4], [1, 1, 2])],
        "mlp_ratios": [int(rng.choice([2, 4])) for _ in range(4)],
        "decoder_hidden_size": int(rng.choice([8, 16, 24])),
        "hidden_act": str(rng.choice(["gelu", "relu", "silu"])),
        "layer_norm_eps": float(rng.choice([1e-6, 1e-5])),
        "drop_path_rate": float(rng.choice([0.0, 0.1])),
        "semantic_loss_ignore_index": 255,
    }


def stored_otherwise(folder: Path, rng: np.random.Generator) -> str:
    """Saves the weights in another way that transformers reads the same; returns which."""
    import torch
    from safetensors.torch import load_file, save_file

    path, way = folder / "model.safetensors", str(rng.choice(["whole", "sharded", "float16", "bfloat16", "no version"]))
    weights = load_file(path)
    if way in ("float16", "bfloat16"):
        save_file({k: v.to(getattr(torch, way)) for k, v in weights.items()}, path, metadata={"format": "pt"})
    elif way == "sharded":
        names, files = sorted(weights), ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
        parts = {files[0]: names[::2], files[1]: names[1::2]}
        for file, part in parts.items():
            save_file({name: weights[name] for name in part}, folder / file, metadata={"format": "pt"})
        index = {"metadata": {}, "weight_map": {name: file for file, part in parts.items() for name in part}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
        path.unlink()
    elif way == "no version":
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config.pop("transformers_version", None)
        (folder / "config.json").write_text(json.dumps(config, indent=None), encoding="utf-8")
    return way


def trial(bed: Bed, rng: np.random.Generator) -> str:
    folder = bed.folder()
    family = str(rng.choice(["bert", "segformer"]))
    if family == "bert":
        architecture, settings = bert(rng)
        tiny.bert(folder, architecture, **settings)
    else:
        architecture = "SegformerForSemanticSegmentation"
        tiny.segformer(folder, **segformer(rng))
    way = stored_otherwise(folder, rng)
    data = bed.data[family]
    if architecture != "BertForQuestionAnswering" and family == "bert":
        labels = [f"LABEL_{i}" for i in range(settings["num_labels"])]
        data = tiny.table(folder.with_suffix(".tsv"), labels=tuple(labels))
    recipe = bed.recipe(family, folder / "out", checkpoint=folder, data=data)
    try:
        source = loading.open_source(recipe)
        model = loading.rewritten_model(source, recipe)
    except InputError as error:
        shutil.rmtree(folder)
        return f"refused: {str(error).replace(str(folder), '…')[:80]}"
    inputs = loading.random_inputs(source, recipe, batch=3)
    theirs = partial(of_transformers, folder, architecture)
    try:
        expected = loading.run_torch(theirs(), inputs, source.outputs)
    except (ValueError, RuntimeError) as error:  # question answering with more than two outputs a token
        with pytest.raises(InputError, match=r"does not run on|makes other inputs"):
            build.run_stage("quantize", recipe)
        return f"transformers cannot run it ({error}), refused"

    several = loading.random_inputs(source, recipe, exactness.samples_for(expected))
    own = exactness.Own(theirs, several, source.outputs)
    found = compare(partial(loading.run_torch, model, outputs=source.outputs), inputs, expected, own, "our float model")
    if rng.random() >= EXPORTED:
        shutil.rmtree(folder)
        return f"the same as transformers ({way})" if found.float32 is None else "within what float32 loses"
    exported(recipe, inputs, expected, own)
    shutil.rmtree(folder)
    return "the same as transformers, exported too"


def of_transformers(folder: Path, architecture: str) -> Any:
    import torch
    import transformers

    return getattr(transformers, architecture).from_pretrained(folder, dtype=torch.float32).eval()


def compare(run: Run, inputs: Arrays, expected: Arrays, own: exactness.Own, what: str) -> exactness.Difference:
    """Returns how far a model is from transformers'. Raises AssertionError where that is more than rounding."""
    difference = exactness.difference(run(inputs), expected, own, run)
    assert difference.is_rounding, f"{what} differs by {difference}"
    return difference


def exported(recipe: Any, inputs: Arrays, expected: Arrays, own: exactness.Own) -> None:
    import onnxruntime

    for name in ("quantize", "calibrate", "export"):
        build.run_stage(name, recipe)
    session = onnxruntime.InferenceSession(recipe.folder / "model.onnx", providers=["CPUExecutionProvider"])

    def run(inputs: Arrays) -> Arrays:
        return dict(zip(expected, session.run(list(expected), inputs), strict=True))

    compare(run, inputs, expected, own, "model.onnx")
