"""The layers of a TensorRT plan, from the engine inspector's JSON in either layout.

Of 8.6 and 10: tensors with "Format/Datatype" and a list "Bindings". Of 11: "Datatype" and "Format" apart and a list
"I/O Tensors". Of a plan that was built without detail only the names of its layers are told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import EngineRefused

TYPES = {  # in a tensor's "Format/Datatype": the first that matches
    "u8": re.compile(r"uint8", re.IGNORECASE),
    "i8": re.compile(r"int8", re.IGNORECASE),
    "bf16": re.compile(r"bf16|bfloat16", re.IGNORECASE),
    "f16": re.compile(r"fp16|half|float16", re.IGNORECASE),
    "f32": re.compile(r"fp32|float", re.IGNORECASE),
    "i32": re.compile(r"int32", re.IGNORECASE),
    "i64": re.compile(r"int64", re.IGNORECASE),
    "bool": re.compile(r"bool", re.IGNORECASE),
}
NODE = re.compile(r"\[ONNX Layer: ([^\]|\x1f]+)")
PROFILE = re.compile(r" \[profile (\d+)\]$")


@dataclass(frozen=True)
class Tensor:
    """An input or output of a layer; type: a key of TYPES, or "" where the engine does not tell."""

    name: str
    shape: tuple[int, ...]
    type: str


@dataclass(frozen=True)
class Layer:
    """One layer in either layout. nodes: of the ONNX graph, those that it computes."""

    name: str
    type: str
    kernel: str
    weights: str
    origin: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    nodes: tuple[str, ...]
    raw: Mapping[str, Any]


def parse(information: Mapping[str, Any]) -> list[Layer]:
    """Returns the layers of either layout; a plan built without detail tells their names alone."""
    return [_layer({"Name": raw} if isinstance(raw, str) else raw) for raw in information["Layers"]]


def _layer(raw: Mapping[str, Any]) -> Layer:
    weights = raw.get("Weights")
    return Layer(
        name=raw["Name"],
        type=str(raw.get("LayerType", "")),
        kernel=str(raw.get("TacticName", "")),
        weights=str(weights.get("Type", "")) if isinstance(weights, Mapping) else "",
        origin=str(raw.get("Origin", "unknown")),
        inputs=_tensors(raw.get("Inputs", ())),
        outputs=_tensors(raw.get("Outputs", ())),
        nodes=tuple(dict.fromkeys(match.strip() for match in NODE.findall(str(raw.get("Metadata", ""))))),
        raw=raw,
    )


def _tensors(listed: Sequence[Mapping[str, Any]]) -> tuple[Tensor, ...]:
    found = []
    for raw in listed:
        told = raw.get("Format/Datatype") or raw.get("Datatype") or raw.get("DataType") or ""
        found.append(Tensor(raw["Name"], tuple(raw.get("Dimensions", ())), first_of(TYPES, str(told))))
    return tuple(found)


def first_of(patterns: Mapping[str, re.Pattern[str]], text: str) -> str:
    """Returns the name of the first pattern that a text holds, "" where it holds none."""
    return next((name for name, pattern in patterns.items() if pattern.search(text)), "")


def of_profile(layers: Sequence[Layer], profile: int) -> list[Layer]:
    """Returns the layers of one optimization profile: from the second on their names end with its number.

    An answer about one context alone may tell that profile's layers without it.
    """
    places = [int(match[1]) if (match := PROFILE.search(layer.name)) else 0 for layer in layers]
    if not any(places):
        return list(layers)
    found = [layer for layer, place in zip(layers, places, strict=True) if place == profile]
    if not found:
        raise EngineRefused(f"the engine inspector tells of no layers of profile {profile}, only of {set(places)}.")
    return found
