"""The half of the stand-in for TensorRT (fake_tensorrt.py) that reads plans and runs them, with ONNX Runtime."""

from __future__ import annotations

import base64
import ctypes
import json
import weakref
from typing import Any

import numpy as np
import onnx
import onnxruntime

PREFIX = b"FAKE PLAN\n"
NUMBERS = {1: "FLOAT", 10: "HALF", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 2: "UINT8"}  # of onnx.TensorProto


class Strict:
    """Only the names in SETTABLE can be set from outside; the object's own begin with an underscore."""

    SETTABLE: tuple[str, ...] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in self.SETTABLE:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        object.__setattr__(self, name, value)


def add_running(trt: Any, major: int) -> None:
    """Gives the module its classes from the runtime on."""

    class EngineInspector(Strict):
        SETTABLE = ("execution_context",)

        def __init__(self, engine: Any) -> None:
            self._engine, self.execution_context = engine, None

        def get_engine_information(self, format: Any) -> str:
            assert format == trt.LayerInformationFormat.JSON
            place = self.execution_context._index if self.execution_context else 0
            return json.dumps(inspected(self._engine._model, major, self._engine._document["detailed"], place))

    class IExecutionContext(Strict):
        SETTABLE = ("profiler",)

        def __init__(self, engine: Any) -> None:
            first = not engine._contexts
            self._engine, self.profiler, self._index = engine, None, 0 if first or major > 8 else None
            engine._contexts.add(self)
            self._shapes: dict[str, Any] = {n: s for n, s in engine._fixed.items() if -1 not in s}
            self._addresses: dict[str, int] = {}

        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            assert stream_handle
            if major == 8 and any(c._index == profile_index for c in self._engine._contexts if c is not self):
                trt._say("ERROR", f"profile {profile_index} is in use by another context")
                return False
            self._index = profile_index
            return profile_index < self._engine.num_optimization_profiles

        def set_input_shape(self, name: str, shape: Any) -> bool:
            if self._index is None:
                trt._say("ERROR", "no optimization profile is set")
                return False
            low, _, high = self._engine.get_tensor_profile_shape(name, self._index)
            if not all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True)):
                trt._say("ERROR", f"{name}: {tuple(shape)} is outside of profile {self._index}")
                return False
            self._shapes[name] = tuple(shape)
            return True

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            if name in self._shapes:
                return tuple(self._shapes[name])
            zeros = {n: np.zeros(s, self._engine._types[n]) for n, s in self._shapes.items()}
            return tuple(self._engine._compute(zeros)[name].shape)

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._addresses[name] = memory
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            assert stream_handle and set(self._addresses) == set(self._engine._names)
            if trt.state.run_fault:
                trt._say("ERROR", trt.state.run_fault)
                return False
            feeds = {}
            for name, shape in self._shapes.items():
                kind = self._engine._bindings[name]
                size = int(np.prod(shape)) * np.dtype(kind).itemsize
                content = ctypes.string_at(self._addresses[name], size)
                feeds[name] = np.frombuffer(content, kind).reshape(shape).astype(self._engine._types[name])
            for name, value in self._engine._compute(feeds).items():
                if trt.state.wrong_at_batch:
                    value[1:] = -value[1:]
                value = np.ascontiguousarray(value)
                ctypes.memmove(self._addresses[name], value.ctypes.data, value.nbytes)
            if self.profiler is not None:
                for layer in inspected(self._engine._model, major, True, self._index)["Layers"]:
                    self.profiler.report_layer_time(layer["Name"], 0.25)
            return True

    class ICudaEngine(Strict):
        def __init__(self, document: dict[str, Any]) -> None:
            self._document, self._contexts = document, weakref.WeakSet()
            content = base64.b64decode(document["graph"])
            self._model = onnx.load_from_string(content)
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            values = (*self._model.graph.input, *self._model.graph.output)
            self._names = [value.name for value in values]
            numbers = {value.name: value.type.tensor_type.elem_type for value in values}
            self._types = {n: onnx.helper.tensor_dtype_to_np_dtype(x) for n, x in numbers.items()}
            old = {np.dtype(np.int64): np.dtype(np.int32)} if major == 8 else {}
            self._bindings = {n: old.get(t, t) for n, t in self._types.items()}
            self._kinds = {n: NUMBERS[x] if n not in self._types or x != 7 or major > 8 else "INT32"
                           for n, x in numbers.items()}  # fmt: skip
            self._fixed = {n: tuple(s) for n, s in document["shapes"].items()}

        def _compute(self, feeds: dict[str, Any]) -> dict[str, Any]:
            names = [x.name for x in self._session.get_outputs()]
            return dict(zip(names, self._session.run(None, feeds), strict=True))

        @property
        def num_io_tensors(self) -> int:
            return len(self._names)

        @property
        def num_optimization_profiles(self) -> int:
            return len(self._document["profiles"])

        def get_tensor_name(self, index: int) -> str:
            return self._names[index]

        def get_tensor_mode(self, name: str) -> Any:
            return trt.TensorIOMode.INPUT if name in self._fixed else trt.TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name: str) -> Any:
            return trt.DataType[self._kinds[name]]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self._fixed[name]

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
            return [tuple(shape) for shape in self._document["profiles"][profile_index][name]]

        def create_execution_context(self) -> Any:
            return IExecutionContext(self)

        def create_engine_inspector(self) -> Any:
            return EngineInspector(self)

    class Runtime(Strict):
        SETTABLE = ("engine_host_code_allowed",)

        def __init__(self, logger: Any) -> None:
            trt._register(logger)

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
            if not serialized_engine.startswith(PREFIX):
                trt._say("ERROR", "Serialization assertion magicTagRead == kMAGIC_TAG failed")
                return None
            document = json.loads(serialized_engine[len(PREFIX) :])
            if document["version"] != trt.__version__:
                trt._say("ERROR", "The engine plan file is not compatible with this version of TensorRT")
                return None
            return ICudaEngine(document)

    trt.Runtime, trt.ICudaEngine, trt.IExecutionContext, trt.EngineInspector = (
        Runtime, ICudaEngine, IExecutionContext, EngineInspector,
    )  # fmt: skip


def inspected(model: Any, major: int, detailed: bool, profile: int) -> dict[str, Any]:
    """Returns an inspector's answer: a layer per product, in int8 where both operands come from a DQ."""
    by_output = {output: node for node in model.graph.node for output in node.output}
    inputs = [value.name for value in model.graph.input]
    layers: list[Any] = []
    for node in model.graph.node:
        if node.op_type not in ("MatMul", "Gemm", "Conv"):
            continue
        int8 = all(by_output[n].op_type == "DequantizeLinear" if n in by_output else False for n in node.input[:2])
        told = "Int8" if int8 else "Half"
        tensor: dict[str, Any] = {"Name": node.input[0], "Dimensions": [1, 1]}
        tensor |= {"Datatype": told, "Format": "N/A"} if major >= 11 else {"Format/Datatype": told}
        layers.append(
            {
                "Name": f"{node.name}_fused" + (f" [profile {profile}]" if profile else ""),
                "LayerType": "gemm",
                "Inputs": [tensor],
                "Outputs": [],
                "TacticName": "sm80_xmma_gemm_i8i8_i8i32_f32_tn" if int8 else "sm80_xmma_gemm_f16f16_f16f16_f16_tn",
                "Metadata": f"[ONNX Layer: {node.name}]",
            }
        )
    if not detailed:
        layers = [layer["Name"] for layer in layers]
    if major >= 11:
        return {"Layers": layers, "I/O Tensors": [{"Name": name} for name in inputs]}
    return {"Layers": layers, "Bindings": inputs}
