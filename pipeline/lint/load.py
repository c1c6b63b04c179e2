"""From a file to a graph in memory with its shapes, or one message that says why it is no ONNX model."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from pipeline.errors import InputError
from pipeline.graph.nodes import op


@dataclass(frozen=True)
class Source:
    """The graph of one file and what the file is like."""

    model: ir.Model
    bytes: int  # with external data
    external: tuple[str, ...]  # data files beside the model
    inference: str | None  # why shapes could not be inferred


def read(path: Path) -> Source:
    """Returns a file's graph, shapes inferred. Raises InputError for a file that is no ONNX model."""
    proto = _parse(path)
    heard: list[str] = []
    try:
        with _listening("onnx_ir", heard):
            model = ir.from_proto(proto)
            if model.functions:
                common.InlinePass()(model)
            model.graph.sort()
    except (ir.serde.SerdeError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no valid ONNX model: {_reason(error)}.") from error
    _check_inputs(path, model)
    ir.external_data.set_base_dir(model.graph, str(path.parent))
    external = _check_external(path, model)
    folders = {name: (path.parent / name).stat().st_size for name in external}
    return Source(model, path.stat().st_size + sum(folders.values()), external, _infer_shapes(model))


def _parse(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise InputError(f"{path} is {'no file' if path.exists() else 'not there'}; expected an ONNX model.")
    try:
        # the format is not guessed from the name: a model is a model under any name
        proto = onnx.load(str(path), format="protobuf", load_external_data=False)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except DecodeError as error:
        size = path.stat().st_size
        raise InputError(
            f"{path} is no ONNX model, or only a part of one ({size} bytes): {error}. Export or copy it again; "
            "a model above 2 GiB needs its weights as external data."
        ) from error
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise InputError(f"{path} holds no ONNX graph: {path.stat().st_size} bytes without operators or outputs.")
    if not proto.opset_import:
        raise InputError(f"{path} is no valid ONNX model: it names no operator set.")
    return proto


def _reason(error: BaseException) -> str:
    """Returns the first cause in one line; onnx_ir wraps it once for every level of the graph."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def _check_inputs(path: Path, model: ir.Model) -> None:
    """Raises InputError for values that are read but never made."""
    missing = [
        f"{op(node)} {node.name or node.outputs[0].name} reads {value.name!r}"
        for node in ir.traversal.RecursiveGraphIterator(model.graph)
        for value in node.inputs
        if value is not None
        and value.producer() is None
        and value.const_value is None
        and not (value.is_graph_input() or value.is_initializer())
    ]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise InputError(f"{path} is no valid ONNX model: {missing[0]}, which nothing makes{more}.")


def _check_external(path: Path, model: ir.Model) -> tuple[str, ...]:
    """Returns the names of the external data files. Raises InputError for one that is missing or too short."""
    needed: dict[str, int] = {}
    for value in _stored(model):
        if isinstance(value, ir.ExternalTensor):
            end = (value.offset or 0) + value.nbytes
            needed[str(value.location)] = max(end, needed.get(str(value.location), 0))
    for name, size in needed.items():
        file = path.parent / name
        if not file.is_file():
            raise InputError(f"{path} keeps weights in {name}, which is not there; put it beside the model.")
        if file.stat().st_size < size:
            raise InputError(
                f"{path} keeps weights in {name}, which is cut off: {file.stat().st_size} bytes, needed {size}."
            )
    return tuple(sorted(needed))


def _stored(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    for graph in model.graphs():
        yield from (v.const_value for v in graph.initializers.values() if v.const_value is not None)
        for node in graph:
            attribute = node.attributes.get("value")
            if attribute is not None and attribute.type == ir.AttributeType.TENSOR:
                yield attribute.as_tensor()


def _infer_shapes(model: ir.Model) -> str | None:
    """Fills in shapes and types; returns why that failed, None where it did not. Weights are not copied for it."""
    heard: list[str] = []
    with _listening("onnx_ir", heard):
        try:
            common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            return _reason(error)
    return next((line for line in heard if "inference failed" in line), None)


@contextmanager
def _listening(name: str, heard: list[str]) -> Iterator[None]:
    """Collects the warnings of a package instead of letting them reach stderr."""

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            cause = record.exc_info[1] if record.exc_info else None
            heard.append(record.getMessage().splitlines()[0] if cause is None else f"inference failed: {cause}")

    ear, logger = Ear(logging.WARNING), logging.getLogger(name)
    before = logger.propagate, logger.level
    logger.addHandler(ear)
    logger.propagate = False
    logger.setLevel(logging.WARNING)  # absl, where another package brings it in, raises the root logger's level
    try:
        yield
    finally:
        logger.removeHandler(ear)
        logger.propagate = before[0]
        logger.setLevel(before[1])
