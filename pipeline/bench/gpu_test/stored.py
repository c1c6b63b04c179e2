"""Graphs without their large weights: what stands in their place, and how they come back.

    graph (100 to 440 MB)     ->     graphs/<digest>.onnx (under 2 MB) + graphs/<digest>.json + blobs

A weight that is a drawn one, as it is or scaled, transposed, in fp16 or as int8 codes, is stored as that recipe; any
other as a blob, once for all graphs. Both come back to the bit: their digests are checked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.artifacts import commands
from pipeline.bench.gpu_test.drawn import BIG, Draw
from pipeline.errors import ArtifactError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

GRAPHS, BLOBS = "graphs", "blobs"
FLOATS = ("float32", "float16")


@dataclass(frozen=True)
class Scale:
    """The scale initializer of a weight's codes, and its axis, None for one scale per tensor."""

    name: str
    axis: int | None
    value: Array


@dataclass(frozen=True)
class Recipe:
    """How a weight is made of a drawn one. scale: the initializer that its int8 codes are of."""

    draw: int
    factor: float
    transposed: bool
    dtype: str
    scale: str | None = None
    axis: int | None = None

    def make(self, drawn: Array, shape: Sequence[int], scale: Array | None, rows: int | None = None) -> Array:
        """Returns the weight; with `rows` only the first of its first axis."""
        value = (drawn.T if self.transposed else drawn)[:rows]
        if self.factor != 1:
            value = value * np.float32(self.factor)
        value = value.reshape(len(value), *shape[1:])
        if scale is None:
            return np.ascontiguousarray(value).astype(self.dtype, copy=False)
        return codes(value, scale[:rows] if self.axis == 0 else scale, self.axis)


def codes(weight: Array, scale: Array, axis: int | None) -> Array:
    """Returns round(weight / scale), half to even, saturated to int8: what the pass store_int8_weights stores.

    Written again because that pass needs onnx-ir, which the machine with the GPU does not have.
    """
    step = np.asarray(scale, np.float32)
    if axis is not None:
        step = step.reshape([-1 if i == axis else 1 for i in range(weight.ndim)])
    return np.ascontiguousarray(np.clip(np.rint(weight / step), -128, 127).astype(np.int8))


class Shelf:
    """Takes the weights out of the graphs of one model. folder: of the pack. draws: of its checkpoint, if any."""

    def __init__(self, folder: Path, draws: Sequence[Draw]) -> None:
        self._folder = folder
        self._drawn = {draw.index: draw.array() for draw in draws}
        self._factors: dict[int, set[float]] = {}  # that a float graph has of a draw
        self._hints: dict[str, Recipe] = {}  # by initializer, from the graph before

    def put(self, graph: bytes) -> str:
        """Returns the digest under which the graph is stored."""
        import onnx

        model = onnx.load_from_string(graph)
        scales = dict(_scales(model))
        weights: dict[str, Any] = {}
        for tensor in model.graph.initializer:
            if int(np.prod(tensor.dims)) < BIG:
                continue
            array = onnx.numpy_helper.to_array(tensor)
            weights[tensor.name] = self._entry(tensor.name, array, scales.get(tensor.name))
            for field in ("raw_data", "float_data", "int32_data", "int64_data"):
                tensor.ClearField(field)
        skeleton, recipes = model.SerializeToString(), json.dumps(weights, sort_keys=True).encode()
        digest = hashlib.sha256(skeleton + recipes).hexdigest()[:24]
        folder = self._folder / GRAPHS
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{digest}.onnx").write_bytes(skeleton)
        (folder / f"{digest}.json").write_bytes(recipes)
        return digest

    def _entry(self, name: str, array: Array, scale: Scale | None) -> dict[str, Any]:
        content = array.tobytes()
        entry = {"sha256": hashlib.sha256(content).hexdigest(), "dtype": str(array.dtype), "shape": list(array.shape)}
        recipe = next((r for r in self._recipes(name, array, scale) if self._is(r, array, scale)), None)
        if recipe is not None:
            self._factors.setdefault(recipe.draw, set()).add(recipe.factor)
            self._hints[name] = recipe
            return {**entry, "recipe": vars(recipe)}
        small = compact(array)
        stored = small.tobytes()
        path = self._folder / BLOBS / hashlib.sha256(stored).hexdigest()[:24]
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(stored)
        return {**entry, "blob": path.name, "stored": str(small.dtype)}

    def _recipes(self, name: str, array: Array, scale: Scale | None) -> Iterator[Recipe]:
        """Yields what a weight may be made by."""
        dtype = str(array.dtype)
        if dtype not in FLOATS and (dtype != "int8" or scale is None):
            return
        stored = (scale.name, scale.axis) if dtype == "int8" and scale is not None else (None, None)
        if name in self._hints:
            hint = self._hints[name]
            yield Recipe(hint.draw, hint.factor, hint.transposed, dtype, *stored)
        for index, drawn in self._drawn.items():
            for transposed in (False, True):
                rows = drawn.T if transposed else drawn
                if drawn.size != array.size or len(rows) != len(array) or (transposed and drawn.ndim != 2):
                    continue
                factors = {1.0, *self._factors.get(index, ())}
                if dtype == "float32":
                    factors.add(_ratio(array[0].ravel(), rows[0].ravel()))
                yield from (Recipe(index, factor, transposed, dtype, *stored) for factor in sorted(factors))

    def _is(self, recipe: Recipe, array: Array, scale: Scale | None) -> bool:
        """Returns whether a recipe makes exactly this weight; the first row decides about most."""
        value = scale.value if recipe.scale is not None and scale is not None else None
        drawn = self._drawn[recipe.draw]
        if not np.array_equal(recipe.make(drawn, array.shape, value, rows=1), array[:1]):
            return False
        return recipe.make(drawn, array.shape, value).tobytes() == array.tobytes()  # zeros have signs


def compact(array: Array) -> Array:
    """Returns an array in fp16 where that holds every value of it: checkpoints are often stored so."""
    if array.dtype != np.float32:
        return array
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), array) else array


def _ratio(made: Array, drawn: Array) -> float:
    at = int(np.argmax(np.abs(drawn)))
    return float(made[at] / drawn[at]) if drawn[at] else 1.0


def _scales(model: Any) -> Iterator[tuple[str, Scale]]:
    """Yields {weight: scale} of every DequantizeLinear on an initializer."""
    import onnx

    values = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in values:
            value = onnx.numpy_helper.to_array(values[node.input[1]]).astype(np.float32)
            axis = next((a.i for a in node.attribute if a.name == "axis"), None)
            yield node.input[0], Scale(node.input[1], axis if value.ndim else None, value)


def restore(folder: Path, digest: str, draws: Sequence[Draw]) -> bytes:
    """Returns a stored graph as ONNX bytes, its weights in place.

    Raises ArtifactError for a weight that does not come back to the bit.
    """
    import onnx

    model = onnx.load_from_string((folder / GRAPHS / f"{digest}.onnx").read_bytes())
    weights: Mapping[str, Any] = json.loads((folder / GRAPHS / f"{digest}.json").read_text(encoding="utf-8"))
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, entry in weights.items():
        if "blob" in entry:
            stored = np.frombuffer((folder / BLOBS / entry["blob"]).read_bytes(), entry["stored"])
            content = stored.astype(entry["dtype"]).tobytes()
        else:
            recipe = Recipe(**entry["recipe"])
            scale = onnx.numpy_helper.to_array(values[recipe.scale]).astype(np.float32) if recipe.scale else None
            content = recipe.make(draws[recipe.draw].array(), entry["shape"], scale).tobytes()
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise ArtifactError(
                f"the weight {name!r} of graph {digest} does not come back as it was packed (numpy {np.__version__} "
                f"here); pack again with `{commands.call('gpu-pack', folder, python='python')}` and copy it anew."
            )
        values[name].raw_data = content
    return bytes(model.SerializeToString())
