"""What a TensorRT plan says of itself: which layers compute in int8, by the names of their kernels.

An int8 input proves nothing: a float kernel can read one. Proof is the kernel's name, int8 weights of a convolution, or
int8 operands of a fused attention. What proves neither int8 nor float is counted as unknown.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.backends._tensorrt.layers import Layer, first_of, of_profile, parse
from pipeline.backends._tensorrt.nodes import is_pair_operator, is_product, module_of
from pipeline.measure import precision

INT8_KERNEL = re.compile(r"i8i8|i8_?i32|i8816|i16832|imma|int8|(?<![a-z])s8(?![0-9])", re.IGNORECASE)
FLOAT_KERNELS = {  # the first that matches
    "f16": re.compile(r"f16f16|f16_f16|fp16|h16816|h1688|h884|hgemm|hmma|half", re.IGNORECASE),
    "bf16": re.compile(r"bf16", re.IGNORECASE),
    "f32": re.compile(r"f32f32|f32_f32|tf32|sgemm|fp32|float|ffma", re.IGNORECASE),
}
# what a layer is, beside an operator that computes
REFORMAT, QUANTIZE, CONSTANT, UNKNOWN = "reformat", "quantize", "constant", "unknown"
PRODUCTS = ("gemm", "matrixmultiply", "fullyconnected", "matmul")
IDLE = ("constant", "noop", "shuffle", "slice", "concat", "signal", "wait", "shapehosttodevice", "shapecall")


def report(
    information: Mapping[str, Any],
    flops: Mapping[str, int],
    times: Mapping[str, float],
    profile: int = 0,
) -> dict[str, Any]:
    """Returns the precision report of an engine inspector's JSON.

    flops: of the ONNX graph's products by node. times: milliseconds by layer name. profile: whose layers. Beside the
    keys of every backend there are `unknown_ops` and `unknown_flop_share` (neither int8 nor float is proved: whole
    foreign nodes), `quantize_layers` (Q and DQ that became layers of their own), `reformats` by origin, and `modules`:
    what the products of each PyTorch module run in.
    """
    layers = of_profile(parse(information), profile)
    counted: set[str] = set()
    entries, kinds = [], [kind(layer) for layer in layers]
    for layer, found in zip(layers, kinds, strict=True):
        entries.append(_entry(layer, found, _flops(layer, found, flops, counted), times.get(layer.name)))
    summary = precision.summarize(entries)
    unknown = sum(entry["flops"] for entry in entries if entry["precision"] == UNKNOWN)
    return {
        **summary,
        "unknown_ops": kinds.count(UNKNOWN),
        "unknown_flop_share": unknown / summary["flops"] if summary["flops"] else 0.0,
        "quantize_layers": [layer.name for layer, found in zip(layers, kinds, strict=True) if found == QUANTIZE],
        "reformats": dict(Counter(x.origin for x, found in zip(layers, kinds, strict=True) if found == REFORMAT)),
        "modules": _modules(entries, flops),
    }


def kind(layer: Layer) -> str:
    """Returns what a layer computes in ("i8", "f16", "bf16", "f32"), or what else it is.

    A product with int8 tensors and no other proof is unknown.
    """
    if layer.type.lower() == "reformat" or layer.raw.get("ParameterType") == "Reformat":
        return QUANTIZE if layer.origin.upper() == "QDQ" else REFORMAT
    if _is_pair(layer):
        return QUANTIZE
    if layer.type.lower() in IDLE:
        return CONSTANT
    if _is_int8(layer):
        return "i8"
    named = first_of(FLOAT_KERNELS, layer.kernel)
    if named:
        return named
    if not layer.type or _is_foreign(layer):
        return UNKNOWN
    types = {tensor.type for tensor in (*layer.inputs, *layer.outputs)}
    computed = next((name for name in ("f16", "bf16", "f32") if name in types), "")
    if {"i8", "u8"} & types and (_is_product(layer) or not computed):
        return UNKNOWN
    return computed or CONSTANT


def _is_product(layer: Layer) -> bool:
    """Returns whether a layer multiplies matrices; others with int8 and float tensors have a Q or DQ inside."""
    return layer.type.lower() in PRODUCTS or "Kernel" in layer.raw or any(map(is_product, layer.nodes))


def _is_pair(layer: Layer) -> bool:
    """Returns whether a layer only quantizes or dequantizes: a Q/DQ that fused with nothing."""
    if layer.type.lower() in ("quantize", "dequantize"):
        return True
    if layer.nodes:
        return all(map(is_pair_operator, layer.nodes))
    return layer.type.lower() in ("kgen", "scale") and "quantize" in layer.name.lower()


def _is_int8(layer: Layer) -> bool:
    if INT8_KERNEL.search(layer.kernel):
        return True
    if layer.weights.lower() == "int8":
        return True
    attention = "_mha" in f"{layer.name} {layer.kernel}".lower()
    return attention and len(layer.inputs) > 0 and all(tensor.type == "i8" for tensor in layer.inputs)


def _is_foreign(layer: Layer) -> bool:
    """Returns whether a layer is a compiled subgraph of which the inspector tells nothing: TensorRT 8's Myelin."""
    return "ForeignNode" in layer.name or layer.type.lower() in ("myelin", "foreignnode")


def _flops(layer: Layer, found: str, flops: Mapping[str, int], counted: set[str]) -> int:
    """Returns the arithmetic of the graph's products that a layer computes; of a node in several layers only once.

    Where the graph's is not known it is read off the layer's own sizes.
    """
    if found in (REFORMAT, QUANTIZE, CONSTANT):
        return 0
    if not flops:
        return _own_flops(layer)
    mine = [node for node in layer.nodes if node in flops and node not in counted]
    counted.update(mine)
    return sum(flops[node] for node in mine)


def _own_flops(layer: Layer) -> int:
    """Returns 2·|out|·K of a matrix product or convolution from the sizes of its tensors; 0 for other layers."""
    if not layer.inputs or not layer.outputs:
        return 0
    first, out, raw = layer.inputs[0].shape, layer.outputs[0].shape, layer.raw
    if "Kernel" in raw and len(first) > 1 and out:
        weights = (out[1], first[1] // int(raw.get("Groups", 1)), *(int(k) for k in raw["Kernel"]))
        return precision.conv_flops(weights, out)
    if layer.type.lower() in PRODUCTS and first and out:
        second = layer.inputs[1].shape if len(layer.inputs) > 1 else ()
        return precision.matmul_flops(first, second or (first[-1], out[-1]), out)
    return 0


def _entry(layer: Layer, found: str, flops: int, ms: float | None) -> dict[str, Any]:
    modules = list(dict.fromkeys(module_of(node) for node in layer.nodes if module_of(node)))
    entry = precision.layer(layer.name, layer.type or "?", found, layer.kernel or layer.type, flops, ms)
    return {**entry, "nodes": list(layer.nodes), "modules": modules}


def _modules(entries: Sequence[Mapping[str, Any]], flops: Mapping[str, int]) -> dict[str, str]:
    """Returns {module: precision} of the PyTorch modules with a product; several precisions are joined by "+"."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        if entry["precision"] in (REFORMAT, QUANTIZE, CONSTANT):
            continue
        for node in entry["nodes"]:
            if node in flops:
                found.setdefault(module_of(node), []).append(entry["precision"])
    return {name: "+".join(dict.fromkeys(kinds)) for name, kinds in found.items()}
