"""Scales and zero points: what the parsers of TensorRT take."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from calibration.arithmetic import usable
from pipeline.graph.nodes import DQ, Q, given, number, op, producer
from pipeline.graph.view import HALF, View
from pipeline.lint.quantizers import ONNX_DEFAULT_AXIS, parameters, quantized_type, quantizers
from pipeline.lint.rules import Hit, rule

WRONG_TYPES = frozenset({"UINT8", "INT16", "UINT16", "INT32"})
SMALLEST_SCALE = 1e-7
SMALLEST_NORMAL_HALF = 2.0**-14  # 6.1e-5; below it float16 loses digits


@rule("Q01", "E", "A quantized tensor is not signed int8.", "Quantize symmetrically to int8, zero point 0.")
def signed_int8(view: View) -> Iterator[Hit]:
    """A DQ on int32 is a bias and Q16's. Eight-bit floats and four-bit types are no int8 model and are let pass for
    TensorRT 10 and 11; 8.6 knows none of them.
    """
    for node in quantizers(view):
        dtype = quantized_type(view, node)
        if dtype is None or dtype == ir.DataType.INT8 or (dtype == ir.DataType.INT32 and op(node) == DQ):
            continue
        if op(node) == Q and given(node, 2) is None:
            continue  # ONNX says uint8, TensorRT int8: Q03 asks for the zero point
        if dtype.name in WRONG_TYPES:
            yield Hit(node, dtype.name.lower())
        else:
            yield Hit(node, dtype.name.lower(), targets=("8.6",))


@rule("Q02", "E", "A zero point is not zero.", "Quantize symmetrically: scale = amax / 127, zero point 0.")
def zero_points(view: View) -> Iterator[Hit]:
    """Counted apart from Q01: shifting uint8 by 128 to int8 mends both, an asymmetric int8 only breaks this one."""
    for node in quantizers(view):
        zero = parameters(view, node).zero_point
        if zero is not None and zero.size and (zero.astype(np.int64) != 0).any():
            yield Hit(node, f"zero point {zero.reshape(-1)[(zero != 0).reshape(-1)][0]}")


@rule(
    "Q03",
    {"8.6": "E", "10": "W"},
    "A Q or DQ has no zero point.",
    "Write an int8 zero point of zeros as third input: 8.6 reads three, and ONNX's own default is uint8.",
)
def zero_point_is_there(view: View) -> Iterator[Hit]:
    """Each node is looked at by itself: the parser reads them one by one."""
    for node in view.of(Q, DQ):
        if given(node, 2) is None:
            yield Hit(node)


@rule(
    "Q04",
    "E",
    "A scale or zero point is computed in the graph.",
    "Fold constants, so that scales and zero points are initializers or Constant nodes; calibrate dynamic ones.",
)
def constant_parameters(view: View) -> Iterator[Hit]:
    """Identity, Cast and the like between a constant and the Q count: importers refuse them."""
    for node in view.of(Q, DQ):
        for index, what in ((1, "scale"), (2, "zero point")):
            value = given(node, index)
            if value is not None and view.tensor(value) is None:
                maker = producer(value)
                origin = "a graph input" if maker is None else f"{op(maker)} {view.label(maker)}"
                yield Hit(node, f"{what} from {origin}")


@rule("Q05", "E", "A scale is not usable.", "Calibrate again: a scale is amax / 127, positive, finite, not tiny.")
def usable_scales(view: View) -> Iterator[Hit]:
    """An error where it is not finite or not positive; a warning below 1e-7 and, in float16, where it is subnormal."""
    for node in quantizers(view):
        scale = parameters(view, node).scale
        if scale is None or not scale.size:
            continue
        plain = scale.astype(np.float32).reshape(-1)
        bad = plain[~usable(plain)]
        half = view.dtype(given(node, 1)) == ir.DataType.FLOAT16
        smallest = SMALLEST_NORMAL_HALF if half else SMALLEST_SCALE
        if bad.size:
            yield Hit(node, f"{bad[0]:.3g}")
        elif plain.min() < smallest:
            yield Hit(node, f"{plain.min():.3g}{' in float16' if half else ''}", severity="W")


@rule(
    "Q06",
    {"8.6": "E"},
    "A scale is not float32.",
    "Store scales in float32: the parser of 8.6 reads other types wrongly.",
)
def float32_scales(view: View) -> Iterator[Hit]:
    for node in quantizers(view):
        dtype = view.dtype(given(node, 1))
        if dtype not in (None, ir.DataType.FLOAT):
            yield Hit(node, str(dtype).lower())


@rule(
    "Q07", "E", "A scale is in half precision below opset 19.", "Raise the opset to 19, or store the scale in float32."
)
def half_scales_need_opset_19(view: View) -> Iterator[Hit]:
    for node in quantizers(view) if view.opset < 19 else ():
        if view.dtype(given(node, 1)) in HALF:
            yield Hit(node, f"opset {view.opset}")


@rule(
    "Q08",
    "E",
    "The shapes of scale, zero point and tensor do not fit.",
    "Give one scale, or one for each index of the axis, and as many zero points.",
)
def shapes_fit(view: View) -> Iterator[Hit]:
    """A list of one counts as one scale, whatever its rank is written as. Blocks (`block_size`) are Q17's."""
    for node in quantizers(view):
        found = parameters(view, node)
        if found.scale is None or number(node, "block_size"):
            continue
        if found.scale.ndim > 1:
            yield Hit(node, f"scale of shape {list(found.scale.shape)}")
            continue
        if found.zero_point is not None and found.zero_point.size != found.scale.size:
            yield Hit(node, f"{found.scale.size} scales, {found.zero_point.size} zero points")
        dims = view.dims(given(node, 0))
        if found.channels is None or dims is None:
            continue
        axis = ONNX_DEFAULT_AXIS if found.axis is None else found.axis
        if not -len(dims) <= axis < len(dims):
            yield Hit(node, f"axis {axis} of a tensor of rank {len(dims)}")
        elif isinstance(dims[axis], int) and dims[axis] != found.channels:
            yield Hit(node, f"{found.channels} scales for {dims[axis]} indices of axis {axis}")
