"""What a compiled OpenVINO model says of itself: every layer's kernel, the type it computes in, its time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.measure import precision

if TYPE_CHECKING:
    from pipeline.backends import Array

# What can run on unsigned bytes that are numbers; on any other layer unsigned bytes are a mask's booleans.
BYTES = ("FullyConnected", "MatMul", "Convolution", "FakeQuantize", "Pooling", "Reorder", "Transpose")
FUSED = ("Subgraph", "ScaledDotProductAttention")  # several operators in one kernel, whole attentions among them


def report(compiled: Any, products: Mapping[str, int], feeds: Mapping[str, Array]) -> dict[str, Any]:
    """Returns the precision report of a model compiled with PERF_COUNT, after some runs on `feeds`.

    products: the flops of the source model's matrix products by name, for those that vanish in fused kernels.
    """
    ran = _counters(compiled, feeds)
    layers = []
    for op in compiled.get_runtime_model().get_ordered_ops():
        name = op.get_friendly_name()
        if name not in ran:  # constants, and what was folded into a neighbour
            continue
        info = {key: str(value.value) for key, value in op.get_rt_info().items()}
        flops = _flops(op, info, products)
        fused = info["layerType"] in FUSED and flops > 0
        layers.append(
            precision.layer(
                name=name,
                type_=info["layerType"],
                precision="i8" if fused and _multiplies_int8(op, info) else _precision(info),
                kernel=ran[name][0],
                flops=flops,
                ms=ran[name][1],
            )
        )
    return precision.summarize(layers)


def _counters(compiled: Any, feeds: Mapping[str, Array]) -> dict[str, tuple[str, float]]:
    """Returns kernel and milliseconds of every layer that runs, each layer's fastest of some runs."""
    request = compiled.create_infer_request()
    found: dict[str, tuple[str, float]] = {}
    for _ in range(precision.PROFILED_RUNS):
        request.infer(feeds)
        for counter in request.profiling_info:
            if counter.status == counter.Status.EXECUTED:
                before = found.get(counter.node_name, ("", math.inf))[1]
                ms = min(before, counter.real_time.total_seconds() * 1e3)
                found[counter.node_name] = (counter.exec_type, ms)
    return found


def _precision(info: Mapping[str, str]) -> str:
    """Returns the type a kernel computes in.

    `runtimePrecision` is the type of the first input; a float kernel that reads int8 says i8 there. The
    kernel's name ends with what it computes in; "I8" stands for unsigned or mixed bytes, and booleans are
    bytes too.
    """
    suffix = info["primitiveType"].rsplit("_", 1)[-1]
    if suffix == "I8":
        return "u8" if info["layerType"] in BYTES else "boolean"
    return suffix if suffix in precision.INT8 + precision.FLOAT else info["runtimePrecision"]


def _multiplies_int8(op: Any, info: Mapping[str, str]) -> bool:
    """Returns whether the product inside a fused kernel is one of int8 matrices, which its own name does not
    say.

    It is when a matrix enters the kernel as int8, or when the dequantization was moved behind the product.
    """
    enters = any(port.get_element_type().get_type_name() == "i8" for port in op.inputs())
    return enters or "/Dequantization" in info["originalLayersNames"]


def _shape(port: Any) -> list[int]:
    return [d.get_length() for d in port.get_partial_shape()]


def products(model: Any) -> dict[str, int]:
    """Returns the flops of every matrix product of the graph before compilation, by name."""
    return {
        op.get_friendly_name(): precision.matmul_flops(_shape(op.input(0)), _shape(op.input(1)), _shape(op.output(0)))
        for op in model.get_ops()
        if op.get_type_name() == "MatMul"
    }


def _flops(op: Any, info: Mapping[str, str], products: Mapping[str, int]) -> int:
    type_ = info["layerType"]
    if type_ in FUSED:
        return sum(products.get(name, 0) for name in info["originalLayersNames"].split(","))
    if type_ in ("FullyConnected", "MatMul"):
        return precision.matmul_flops(_shape(op.input(0)), _shape(op.input(1)), _shape(op.output(0)))
    if type_ == "Convolution":
        return precision.conv_flops(_shape(op.input(1)), _shape(op.output(0)))
    return 0
