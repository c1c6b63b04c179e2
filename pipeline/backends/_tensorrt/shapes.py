"""Optimization profiles: which input shapes a plan serves, and which it is tuned for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import InputError

if TYPE_CHECKING:
    from pipeline.recipe import Shapes

Shape = tuple[int, ...]
Range = tuple[Shape, Shape, Shape]  # min, opt, max
Profile = dict[str, Range]  # by input name

DYNAMIC = -1
IMAGE_RANK = 4  # [B, C, H, W]; all other inputs are sequences, [B, S, …] or [B, choices, S]


def profiles(inputs: Mapping[str, Shape], shapes: Shapes) -> list[Profile]:
    """Returns the optimization profiles of a graph: batch 1 alone, then 2 to the largest batch, tuned for that one.

    inputs: {name: shape}, -1 where an axis is open. A plan has one kernel a profile and layer, so a profile for all
    would be tuned for one batch and slow at the others. All axes but the batch are fixed: TensorRT leaves int8 products
    of open shapes unfused. Raises InputError for an input whose open axes are of no known meaning.
    """
    largest = max(shapes.batches)
    ranges = [(1, 1, 1)] if largest == 1 else [(1, 1, 1), (2, largest, largest)]
    fixed = {name: sized(name, shape, shapes) for name, shape in inputs.items()}
    if all(DYNAMIC not in shape for shape in fixed.values()):
        ranges = ranges[:1]
    return [{name: _range(shape, batches) for name, shape in fixed.items()} for batches in ranges]


def spanning(found: Sequence[Profile]) -> Profile:
    """Returns one profile that serves what all of them serve, tuned for the first: 8.6's trtexec takes one."""
    return {name: (found[0][name][0], found[0][name][1], found[-1][name][2]) for name in found[0]}


def sized(name: str, shape: Shape, shapes: Shapes) -> Shape:
    """Returns an input's shape with every open axis but the first given its size by the recipe."""
    if DYNAMIC not in shape[1:]:
        return shape
    if len(shape) != IMAGE_RANK:
        sizes = [shapes.sequence_length] * len(shape)
        if shape[1:] == (DYNAMIC, DYNAMIC):
            sizes[1] = shapes.choices
        pairs = zip(shape[1:], sizes[1:], strict=True)
        return (*shape[:1], *(size if n == DYNAMIC else n for n, size in pairs))
    if shape[1] == DYNAMIC:
        raise InputError(f"the number of channels of input {name!r} is open ({list(shape)}): export it with 3.")
    if shapes.image_size is None:
        raise InputError(f"the size of input {name!r} is open ({list(shape)}): give it, --set shapes.image_size=….")
    sides = (known if n == DYNAMIC else n for n, known in zip(shape[2:], shapes.image_size, strict=True))
    return (*shape[:2], *sides)


def _range(shape: Shape, batches: tuple[int, int, int]) -> Range:
    if not shape or shape[0] != DYNAMIC:
        return shape, shape, shape
    low, best, high = ((batch, *shape[1:]) for batch in batches)
    return low, best, high


def serving(found: Sequence[Profile], given: Mapping[str, Shape]) -> int:
    """Returns the index of the first profile that takes these input shapes.

    Raises InputError that names every profile where none does.
    """
    for index, profile in enumerate(found):
        if all(_inside(given[name], profile[name]) for name in profile):
            return index
    shown = ", ".join(f"{name} {list(shape)}" for name, shape in given.items())
    raise InputError(
        f"the plan takes no inputs of shape {shown}. Its optimization profiles:\n{described(found)}\n"
        "Give inputs of these shapes, or build for others: --set shapes.batches=[1,…,the largest], "
        "shapes.sequence_length, shapes.image_size."
    )


def _inside(shape: Shape, limits: Range) -> bool:
    low, _, high = limits
    return len(shape) == len(low) and all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True))


def described(found: Sequence[Profile]) -> str:
    """Returns one line a profile: every input's smallest and largest shape."""
    lines = []
    for index, limits in enumerate(found):
        ranges = [f"{name} {_text(low)} to {_text(high)}" for name, (low, _, high) in limits.items()]
        lines.append(f"  profile {index}: {', '.join(ranges)}")
    return "\n".join(lines)


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


def specification(ranges: Profile, which: int) -> str:
    """Returns what trtexec's --minShapes (0), --optShapes (1) and --maxShapes (2) take."""
    return ",".join(f"{name}:{_text(limits[which])}" for name, limits in ranges.items())


def inputs_of(graph: Path) -> dict[str, Shape]:
    """Returns {name: shape} of an ONNX file's inputs, -1 for an open axis."""
    import onnx

    model = onnx.load(graph, load_external_data=False)
    constants = {tensor.name for tensor in model.graph.initializer}
    return {
        value.name: tuple(d.dim_value if d.HasField("dim_value") else DYNAMIC for d in value.type.tensor_type.shape.dim)
        for value in model.graph.input
        if value.name not in constants
    }
