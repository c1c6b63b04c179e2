"""Checkpoints of a few thousand parameters with everything a real one has, and data sets that go with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLOURS = ("red", "green", "blue", "white", "black")
THINGS = ("boat", "house", "lamp", "chair", "stone", "horse")
PLACES = ("harbour", "garden", "market", "valley", "kitchen")
WORDS = ("the", "is", "in", "a", "what", "where", "which", "colour", "it", *COLOURS, *THINGS, *PLACES)
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz0123456789.?,")
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{c}" for c in LETTERS), *WORDS)
CLASSES = ("sky", "road", "tree", "car")
COLOUR_OF = {"sky": (200, 220, 255), "road": (90, 90, 90), "tree": (30, 140, 40), "car": (200, 30, 30)}


def bert(folder: Path, architecture: str = "BertForQuestionAnswering", **settings: Any) -> Path:
    """Returns `folder` with a BERT of 2 layers, random weights, and its own WordPiece tokenizer.json."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    options: dict[str, Any] = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "max_position_embeddings": 64,
        "initializer_range": 0.1,  # larger than usual: the outputs then differ from sample to sample
        **settings,
    }
    torch.manual_seed(1)
    model = getattr(transformers, architecture)(transformers.BertConfig(**options)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
    model.save_pretrained(folder)
    tokenizer(VOCABULARY).save(str(folder / "tokenizer.json"))
    return folder


def tokenizer(vocabulary: tuple[str, ...]) -> Any:
    """Returns a lower-case WordPiece tokenizer that writes [CLS] a [SEP] b [SEP]."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    made = Tokenizer(models.WordPiece({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return made


def segformer(folder: Path, architecture: str = "SegformerForSemanticSegmentation", **settings: Any) -> Path:
    """Returns `folder` with a SegFormer of 4 stages of one layer each, random weights and batch-norm statistics."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    options: dict[str, Any] = {
        "hidden_sizes": [16, 16, 32, 32],
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 1, 2, 2],
        "decoder_hidden_size": 16,
        "id2label": dict(enumerate(CLASSES)),
        "label2id": {name: i for i, name in enumerate(CLASSES)},
        "initializer_range": 0.1,
        **settings,
    }
    torch.manual_seed(2)
    model = getattr(transformers, architecture)(transformers.SegformerConfig(**options)).eval()
    randomize_statistics(model)
    model.save_pretrained(folder)
    config = {"do_rescale": True, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def randomize_statistics(model: Any) -> None:
    """Gives biases and batch norms random values: zeros and ones would hide a rewrite that forgets them."""
    import torch

    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.5, generator=generator)
                module.running_var.uniform_(0.3, 2, generator=generator)
                module.weight.uniform_(0.3, 2, generator=generator)
            bias = getattr(module, "bias", None)
            if isinstance(bias, torch.Tensor):
                bias.normal_(0, 0.1, generator=generator)


def squad(path: Path, count: int = 40, seed: int = 0) -> Path:
    """Returns `path`, a SQuAD v1.1 file: each context places three coloured things, one is asked for."""
    rng = np.random.default_rng(seed)
    paragraphs = []
    for number in range(count):
        things = rng.permutation(THINGS)[:3]
        facts = [(thing, rng.choice(COLOURS), rng.choice(PLACES)) for thing in things]
        context = " ".join(f"the {colour} {thing} is in the {place}." for thing, colour, place in facts)
        thing, colour, place = facts[rng.integers(3)]
        question, answer = (f"where is the {thing}?", place) if number % 2 else (f"what colour is the {thing}?", colour)
        answers = [{"text": str(answer), "answer_start": context.index(str(answer))}]
        qas = [{"id": f"q{number}", "question": question, "answers": answers}]
        paragraphs.append({"context": context, "qas": qas})
    content = {"version": "1.1", "data": [{"title": "things", "paragraphs": paragraphs}]}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def table(path: Path, count: int = 40, labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")) -> Path:
    """Returns `path`, a TSV file of different texts with a label each."""
    rng = np.random.default_rng(1)
    rows = [
        f"the {rng.choice(COLOURS)} {rng.choice(THINGS)} {i} is in the {rng.choice(PLACES)}\t{labels[i % len(labels)]}"
        for i in range(count)
    ]
    path.write_text("text\tlabel\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def photos(folder: Path, count: int = 24, size: tuple[int, int] = (48, 80)) -> Path:
    """Returns `folder` with a folder per class of noisy images in that class's colour."""
    rng = np.random.default_rng(4)
    for number in range(count):
        name = CLASSES[number % len(CLASSES)]
        (folder / name).mkdir(parents=True, exist_ok=True)
        colour = np.array(COLOUR_OF[name]) + rng.normal(0, 30, 3)
        image = np.clip(colour + rng.normal(0, 20, (*size, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / name / f"{number:03}.png")
    return folder


def scenes(folder: Path, count: int = 24, size: int | tuple[int, int] = 64) -> Path:
    """Returns `folder` with images/ and masks/: coloured rectangles, and a few pixels that are not judged.

    size: of a square, or height and width.
    """
    rng = np.random.default_rng(2)
    shape = (size, size) if isinstance(size, int) else size
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        mask = np.zeros(shape, np.uint8)
        for label in range(1, len(CLASSES)):
            top, left = rng.integers(0, [side // 2 for side in shape])
            height, width = rng.integers(8, [side // 2 for side in shape])
            mask[top : top + height, left : left + width] = label
        colours = np.array([COLOUR_OF[name] for name in CLASSES])
        image = np.clip(colours[mask] + rng.normal(0, 20, (*shape, 3)), 0, 255).astype(np.uint8)
        mask[:2] = 255
        Image.fromarray(image).save(folder / "images" / f"{number:03}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:03}.png")
    return folder
