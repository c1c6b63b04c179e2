"""Held-out samples with both models' predictions, drawn: label maps as pictures, texts as rows."""

from __future__ import annotations

import base64
import colorsys
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from pipeline.tasks._masks import nothing

Pixels = NDArray[np.uint8]

LIMIT = 8  # samples on the page
WIDE = 256  # pixels of a picture
OPACITY = 0.72  # of a class colour over the picture's grey
SAME, CHANGED, WORSE, BETTER = (225, 228, 232), (217, 38, 169), (214, 48, 49), (31, 143, 92)
FIRST_COLOURS = (
    (126, 182, 222), (150, 132, 168), (160, 184, 108), (104, 108, 120), (52, 106, 176), (212, 148, 104),
    (54, 128, 84), (198, 176, 88), (206, 78, 84), (236, 150, 186), (244, 208, 92), (124, 84, 170),
    (88, 186, 178), (150, 96, 66), (188, 198, 210), (232, 122, 60), (176, 60, 128), (112, 148, 60),
)  # fmt: skip
SHOWN_CONTEXT = 260  # characters around the answers


def palette(count: int) -> Pixels:
    """Returns `count` colours, neighbours in the list far apart  # [count, 3]."""
    golden = 0.61803398875  # of the colour circle: evenly spread hues for any count
    more = [
        colorsys.hsv_to_rgb(i * golden % 1, (0.45, 0.7)[i % 2], (0.9, 0.6, 0.75)[i % 3])
        for i in range(max(0, count - len(FIRST_COLOURS)))
    ]
    extra = (np.asarray(more).reshape(-1, 3) * 255).astype(np.uint8)
    return np.concatenate([np.asarray(FIRST_COLOURS, np.uint8), extra])[:count]


def segmentation(examples: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> dict[str, Any]:
    """Returns {rows, legend, has_label}: pictures as data URIs, agreement per sample, the classes that occur.

    Each example holds an image uint8 [h, w, 3] (see `with_images`), float and engine label maps [h, w], and a label
    [h, w] or None.
    """
    maps = [
        np.asarray(example[key])
        for example in examples
        for key in ("float", "engine", "label")
        if example.get(key) is not None
    ]
    present = sorted({int(value) for one in maps for value in np.unique(one) if value != nothing(one)})
    colours = palette(max([len(class_names), *(value + 1 for value in present)]))
    legend = [
        {
            "name": class_names[value] if value < len(class_names) else f"class {value}",
            "colour": "#{:02x}{:02x}{:02x}".format(*colours[value]),
        }
        for value in present
    ]
    rows = [_segmented(example, colours) for example in examples]
    return {"rows": rows, "legend": legend, "has_label": any("label" in row["pictures"] for row in rows)}


def with_images(examples: Sequence[Mapping[str, Any]], folder: Path) -> list[Mapping[str, Any]]:
    """Returns the examples with `image` uint8 [h, w, 3], made from the network's input `pixel_values` [3, h, w].

    `folder` holds the checkpoint's preprocessor_config.json; without it the values are stretched to 0 … 255.
    """
    from pipeline.errors import InputError
    from pipeline.tasks._image_processing import read

    try:
        processing = read(folder)
    except InputError:
        processing = None
    pictured: list[Mapping[str, Any]] = []
    for example in examples:
        if "pixel_values" in example and "image" not in example:
            x = np.asarray(example["pixel_values"], dtype=np.float32).transpose(1, 2, 0)
            x = (x - x.min()) / max(float(np.ptp(x)), 1e-12) * 255 if processing is None else processing.image(x)
            example = {**example, "image": np.clip(np.rint(x), 0, 255).astype(np.uint8)}
        pictured.append(example)
    return pictured


def photos(examples: Sequence[Mapping[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Returns one row per image with a label: its picture as a data URI, its name, the label and both answers."""
    pictured = with_images([{**example, "pixel_values": example["photo"]} for example in examples], folder)
    return [
        {
            **{key: example[key] for key in ("name", "label", "float", "engine")},
            "picture": _uri(_smaller(np.asarray(example["image"], np.uint8), smooth=True), "JPEG"),
        }
        for example in pictured
    ]


def _segmented(example: Mapping[str, Any], colours: Pixels) -> dict[str, Any]:
    image = np.asarray(example["image"], dtype=np.uint8)
    before, after = np.asarray(example["float"]), np.asarray(example["engine"])
    label = None if example.get("label") is None else np.asarray(example["label"])
    small = _smaller(image, smooth=True)
    pictures = {"image": _uri(small, "JPEG")}
    if label is not None:
        pictures["label"] = _uri(_blend(small, label, colours), "JPEG")
    pictures["float"] = _uri(_blend(small, before, colours), "JPEG")
    pictures["engine"] = _uri(_blend(small, after, colours), "JPEG")
    pictures["difference"] = _uri(_difference(before, after, label), "PNG")
    return {"pictures": pictures, "agreement": float((before == after).mean())}


def _blend(small: Pixels, label_map: NDArray[Any], colours: Pixels) -> Pixels:
    none, labels = nothing(label_map), _smaller(label_map.astype(np.int32), smooth=False)
    grey = np.repeat(small.mean(axis=2, keepdims=True), 3, axis=2)
    known = labels[..., None] != none
    flat = colours[np.where(labels == none, 0, labels)]
    return np.where(known, OPACITY * flat + (1 - OPACITY) * grey, grey).astype(np.uint8)


def _difference(before: NDArray[Any], after: NDArray[Any], label: NDArray[Any] | None) -> Pixels:
    """Returns a picture of changed predictions: red where int8 lost the labelled class, green where it found it."""
    picture = np.empty((*before.shape, 3), np.uint8)
    picture[:] = SAME
    picture[before != after] = CHANGED
    if label is not None:
        picture[(before == label) & (after != label)] = WORSE
        picture[(before != label) & (after == label)] = BETTER
        picture[(before != after) & (label == nothing(label))] = CHANGED
        picture[(before == after) & (label == nothing(label))] = SAME
    # A single changed pixel must survive the reduction, so blocks keep their most unusual pixel.
    block = -(-before.shape[1] // WIDE)
    if block > 1:
        height, width = (side // block * block for side in before.shape)
        tiles = picture[:height, :width].reshape(height // block, block, width // block, block, 3)
        tiles = tiles.swapaxes(1, 2).reshape(height // block, width // block, block * block, 3)
        unusual = (tiles != SAME).any(axis=3).argmax(axis=2)
        picture = np.take_along_axis(tiles, unusual[..., None, None], axis=2)[:, :, 0]
    return picture


def _smaller(pixels: NDArray[Any], *, smooth: bool) -> NDArray[Any]:
    from PIL import Image

    height, width = pixels.shape[:2]
    if width <= WIDE:
        return pixels
    target = (WIDE, max(1, round(height * WIDE / width)))
    method = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(pixels).resize(target, method))


def _uri(pixels: Pixels, form: str) -> str:
    """Returns the picture as a data URI."""
    from PIL import Image

    stream = BytesIO()
    picture = Image.fromarray(pixels)
    if form == "PNG":
        picture.quantize(8).save(stream, "PNG", optimize=True)
    else:
        picture.save(stream, "JPEG", quality=82, optimize=True)
    return f"data:image/{form.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def questions(examples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns one row per question: both answers, the passage around them, the accepted answers."""
    rows = []
    for example in examples:
        before, after = str(example["float"]), str(example["engine"])
        accepted = [str(answer) for answer in example.get("answers") or []]
        rows.append(
            {
                "question": example["question"],
                "context": _marked(str(example.get("context") or ""), before, after),
                "answers": list(dict.fromkeys(accepted)),
                "float": before,
                "engine": after,
                "same": before == after,
                "right": {"float": before in accepted, "engine": after in accepted},
            }
        )
    return rows


def _marked(context: str, before: str, after: str) -> Markup:
    """Returns the part of the context around the answers, float's and int8's in <mark>."""
    spans = []
    for text, name in ((before, "float"), (after, "engine")):
        start = context.find(text) if text else -1
        if start >= 0:
            spans.append((start, start + len(text), name))
    low = min((s for s, _, _ in spans), default=0)
    high = max((e for _, e, _ in spans), default=0)
    spare = max(0, SHOWN_CONTEXT - (high - low)) // 2
    first, last = low - spare, high + spare
    # Whole words: from the first blank inside, up to the last one.
    first = 0 if first <= 0 else context.find(" ", first, low) + 1 or low
    last = len(context) if last >= len(context) else max(context.rfind(" ", high, last), high)
    edges = sorted({first, last, *(edge for s, e, _ in spans for edge in (s, e))})
    pieces = [Markup("… ") if first else Markup("")]
    for start, end in pairwise(edges):
        names = [name for s, e, name in spans if s <= start and end <= e]
        piece = escape(context[start:end])
        pieces.append(Markup('<mark class="{}">{}</mark>').format(" ".join(names), piece) if names else piece)
    pieces.append(Markup(" …") if last < len(context) else Markup(""))
    return Markup("").join(pieces)


def kind_of(examples: Sequence[Mapping[str, Any]]) -> str:
    """Returns the kind of table for examples: none, segmentation, photos, questions, neighbours, labels, fields."""
    if not examples:
        return "none"
    keys = set(examples[0])
    for needed, kind in (
        ({"image", "float", "engine"}, "segmentation"),
        ({"pixel_values", "float", "engine"}, "segmentation"),
        ({"photo", "float", "engine"}, "photos"),
        ({"question", "float", "engine"}, "questions"),
        ({"text", "cosine"}, "neighbours"),
        ({"text", "float", "engine"}, "labels"),
    ):
        if needed <= keys:
            return kind
    return "fields"
