"""The strongly typed graph of TensorRT 10 and 11: what is not int8 is fp16."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from pipeline.errors import InputError
from pipeline.graph.build import constant, described, initializer
from pipeline.graph.half_scales import LARGEST, to_half
from pipeline.graph.half_types import HALF, SINGLE, Types, is_float
from pipeline.graph.nodes import DQ, LAYOUT, PRODUCTS, Q, producer
from pipeline.graph.passes import graph_pass
from pipeline.graph.walks import only_read_by

MASKED = -(2.0**15)  # half of fp16's range below 0: scores may be as large before their sum with it overflows
ON_THE_WAY = LAYOUT | {"Add", "Cast", "Concat", "Expand", "Gather", "Identity", "Max", "Min", "Mul", "Slice", "Sub"}
ON_THE_WAY |= {"Tile", "Where"}  # from a mask to the softmax


def _faults(model: ir.Model) -> Iterator[str]:
    """Yields what prevents fusion: a Cast between a DQ and a product, or between an operator and its Q."""
    kinds = {value.dtype for value in _values(model)}
    if SINGLE in kinds and HALF not in kinds:
        yield "nothing is fp16"
    for node in model.graph:
        source = producer(node.inputs[0]) if node.inputs else None
        if source is not None and node.op_type == Q and source.op_type == "Cast":
            original = source.inputs[0]
            if original is not None and original.dtype in (HALF, SINGLE):
                yield f"{source.name} in front of a Q"
        if source is not None and node.op_type == "Cast" and source.op_type == DQ:
            readers = {reader.op_type for reader in node.outputs[0].consumers()}
            yield from [f"{node.name} after a DQ"] if readers & {*PRODUCTS} else []


def _values(model: ir.Model) -> list[ir.Value]:
    return [*model.graph.initializers.values(), *(v for node in model.graph for v in node.outputs)]


@graph_pass(ensures=_faults, tolerance=5e-3)
def half_precision(model: ir.Model) -> bool:
    """Computes in fp16 what was computed in fp32; inputs and outputs of the graph keep their types.

        x → op → Q(s) → DQ(s) → MatMul → y     ->     x → Cast → op → Q(s') → DQ(s') → MatMul → Cast → y
                                                              fp16   fp16     fp16

    A strongly typed network computes in the types that the graph states, so no Cast may separate a DQ from the product
    that reads it, nor an operator from the Q after it: the scales are fp16 as well. A Q that reads an input of the
    graph reads it in fp32, with an fp32 scale of the same value, without a Cast.

    What fp16 could spoil:
    LayerNormalization stays one node of fp16 tensors: with stash_type = 1, which is written out here, ONNX computes its
        mean and variance in fp32, whatever the tensors are. Fp32 tensors around it would cost two Casts and the fusion
        with the residual add before it.
    Softmax stays fp16: it subtracts the maximum first, so nothing in it exceeds 1 except the sum, which is at most the
        number of keys, and Casts would break the attention block that TensorRT fuses.
    Sums over many elements are computed in fp32 between two Casts (`half_types`).
    Masks, constants that reach nothing but a softmax, are raised to −2¹⁵: −3.4e38 is −∞ in fp16, as is −65504 with
        a score of −16, and a row of −∞ has no softmax.

    After `half_scales`. Raises InputError for constants beyond 65504. A graph that has fp16 already stays as it is.
    """
    if any(value.dtype == HALF for value in _values(model)):
        return False  # before anything is inferred: inference gives unknown dimensions new names
    typed = ir.passes.Sequential(
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0), common.ShapeInferencePass()
    )(model)
    values = _values(model)
    if any(v.dtype == HALF for v in values) or not any(map(is_float, values)):
        return typed.modified
    untyped = [v.name for v in values if v.dtype is None and v.name]
    assert not untyped, f"the type of {untyped[0]} is unknown"
    _check_scales(model)
    types = Types(model)
    _convert_constants(model, types)
    for value in types.halves:
        _retype(value)
    _cast_operands(model, types)
    _cast_outputs(model)
    return True


def _check_scales(model: ir.Model) -> None:
    for node in model.graph:
        if node.op_type in (Q, DQ):
            scale = constant(node.inputs[1])
            if not np.array_equal(scale, to_half(scale)):
                raise ValueError(f"{node.name}: its scale is not a normal fp16 number; run `half_scales` first")


def _convert_constants(model: ir.Model, types: Types) -> None:
    """Stores constants as fp16; one that fp32 operators read too is stored twice."""
    faults = []
    for value in [v for v in model.graph.initializers.values() if is_float(v)]:
        uses = list(value.uses())
        readers = [use for use in uses if types.wanted[use.node, use.idx] == HALF]
        if not readers or value.const_value is None:
            continue
        array = _in_range(value, value.const_value.numpy())
        if array is None:
            faults.append(str(value.name))
            continue
        alone = len(readers) == len(uses) and not value.is_graph_output()
        half = initializer(model, str(value.name) if alone else f"{value.name}.half", array)
        for use in readers:
            use.node.replace_input_with(use.idx, half)
    for node in model.graph:
        if node.op_type == "ConstantOfShape" and types.made.get(node.outputs[0]) == HALF:
            stored = node.attributes["value"].as_tensor().numpy() if "value" in node.attributes else np.zeros(1)
            array = _in_range(node.outputs[0], stored)
            if array is None:
                faults.append(str(node.name))
            else:
                node.attributes["value"] = ir.AttrTensor("value", ir.tensor(array))
    if faults:
        raise InputError(
            f"{len(faults)} constants are beyond {LARGEST:.0f}, the largest number of fp16: {', '.join(faults[:5])}. "
            "Build for TensorRT 8.6 (--set tensorrt.target=8.6) or another backend."
        )


def _in_range(value: ir.Value, array: np.ndarray) -> np.ndarray | None:
    """Returns a constant in fp16, masks raised to MASKED; None if it does not fit."""
    if array.size and array.min() < MASKED and only_read_by(value, lambda n: n.op_type == "Softmax", ON_THE_WAY):
        array = np.maximum(array, MASKED)
    with np.errstate(over="ignore"):
        return array.astype(np.float16) if (np.abs(array) <= LARGEST).all() else None


def _retype(value: ir.Value) -> None:
    """Makes a tensor fp16, in its operator's attributes too."""
    node = value.producer()
    assert node is not None
    value.dtype = HALF
    for name in ("to", "dtype"):
        if node.attributes.get_int(name, 0) == SINGLE.value:
            node.attributes[name] = ir.AttrInt64(name, HALF.value)
    if node.op_type == "LayerNormalization":
        node.attributes["stash_type"] = ir.AttrInt64("stash_type", SINGLE.value)


def _cast_operands(model: ir.Model, types: Types) -> None:
    """Inserts Casts for operands that come in another type, one per tensor and type."""
    casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
    for (node, index), kind in types.wanted.items():
        value = node.inputs[index]
        assert value is not None
        if kind is None or value.dtype == kind:
            continue
        if (value, kind) not in casts:
            casts[value, kind] = _cast(model, value, kind, f"{value.name}/{kind.name.lower()}")
        node.replace_input_with(index, casts[value, kind])


def _cast(model: ir.Model, value: ir.Value, kind: ir.DataType, name: str) -> ir.Value:
    node, above = ir.node("Cast", [value], attributes={"to": kind.value}), value.producer()
    output = described(node, value.shape, name, kind).outputs[0]
    node.name = f"{name}/Cast"
    if above is None:
        model.graph.insert_before(model.graph[0], node)
    else:
        model.graph.insert_after(above, node)
    return output


def _cast_outputs(model: ir.Model) -> None:
    for i, value in enumerate(model.graph.outputs):
        if value.dtype == HALF:
            name, value.name = str(value.name), f"{value.name}/float16"
            model.graph.outputs[i] = _cast(model, value, SINGLE, name)
