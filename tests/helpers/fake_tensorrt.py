"""A stand-in for the module `tensorrt` in the versions 8.6, 10 and 11, for machines without a GPU.

It parses real ONNX and its engines compute with ONNX Runtime. It has the names that the code here uses and that the
version has, no others: a name that is missing in a version raises AttributeError, also when it is set. A test checks
the names against those of the real bindings (tests/data/tensorrt-names-*.json).

What it models of the real one: creation flags and builder flags by version, parser errors, a logger of which only the
first counts, builds that return None, optimization profiles, int32 bindings for int64 inputs before 9, plans that only
their own version reads, timing caches, and the engine inspector's JSON in both layouts.
"""

from __future__ import annotations

import base64
import importlib
import json
import sys
from enum import IntEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import onnx
import pytest
from polygraphy.cuda import Cuda

from helpers.fake_cuda import FakeDriver
from helpers.fake_tensorrt_running import NUMBERS, PREFIX, Strict, add_running
from pipeline.backends._tensorrt import api, cuda

VERSIONS = ("8.6.0", "10.13.3", "11.4.0")
CACHE = b"FAKE CACHE "


def _enum(name: str, *members: str) -> Any:
    return IntEnum(name, list(members), start=0)  # type: ignore[misc]


class HostMemory(bytes):
    """What the builder and the timing cache serialize to."""

    def __enter__(self) -> HostMemory:
        return self

    def __exit__(self, *fault: object) -> None:
        pass


def make(version: str) -> Any:
    """Returns the module of a version.

    Tests set `state`: refused_operators (the parser does not import them), build_fault (why the builder returns None),
    wrong_at_batch (engines are silently wrong from the second sample on), run_fault; and read `last_config`,
    `last_flags`, `caches` (timing caches that builders were given) and `logger`.
    """
    major = int(version.split(".")[0])
    trt: Any = ModuleType("tensorrt")
    trt.__version__ = version
    trt.state = SimpleNamespace(
        refused_operators=(), build_fault=None, wrong_at_batch=False, run_fault=None, last_config=None, last_flags=0,
        caches=[], logger=None,
    )  # fmt: skip
    _enumerations(trt, major)
    _foundations(trt)
    _building(trt, major)
    add_running(trt, major)
    return trt


def _enumerations(trt: Any, major: int) -> None:
    precision = ("FP16", "INT8") if major < 11 else ()
    trt.BuilderFlag = _enum("BuilderFlag", *precision, "TF32", "REFIT")
    creation = {8: ("EXPLICIT_BATCH",), 10: ("EXPLICIT_BATCH", "STRONGLY_TYPED"), 11: ("STRONGLY_TYPED",)}[major]
    trt.NetworkDefinitionCreationFlag = _enum("NetworkDefinitionCreationFlag", *creation)
    trt.MemoryPoolType = _enum("MemoryPoolType", "WORKSPACE")
    trt.ProfilingVerbosity = _enum("ProfilingVerbosity", "LAYER_NAMES_ONLY", "NONE", "DETAILED")
    old = ("CUBLAS", "CUBLAS_LT", "CUDNN") if major < 11 else ()
    trt.TacticSource = _enum("TacticSource", *old, "EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")
    trt.LayerInformationFormat = _enum("LayerInformationFormat", "ONELINE", "JSON")
    trt.TensorIOMode = _enum("TensorIOMode", "NONE", "INPUT", "OUTPUT")
    trt.DeviceType = _enum("DeviceType", "GPU", "DLA")
    trt.LayerType = _enum("LayerType", "SHAPE", "QUANTIZE", "DEQUANTIZE", "CONSTANT")
    trt.DataType = _enum("DataType", "FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8", *(("INT64",) * (major >= 9)))


def _foundations(trt: Any) -> None:
    class ILogger:
        Severity = _enum("Severity", "INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")

        def __init__(self) -> None:
            pass

    class IProfiler:
        def __init__(self) -> None:
            pass

    def say(severity: str, text: str) -> None:
        trt.state.logger.log(ILogger.Severity[severity], text)

    def register(logger: Any) -> None:
        assert isinstance(logger, ILogger)
        trt.state.logger = trt.state.logger or logger  # the first is kept, the others are ignored

    trt.init_libnvinfer_plugins = lambda logger, namespace: True
    trt.ILogger, trt.IProfiler, trt._say, trt._register = ILogger, IProfiler, say, register


def _building(trt: Any, major: int) -> None:
    class ITensor(Strict):
        SETTABLE = ("shape",)

        def __init__(self, value: Any) -> None:
            self._name, self._kind = value.name, NUMBERS[value.type.tensor_type.elem_type]
            dims = value.type.tensor_type.shape.dim
            self.shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims)

        @property
        def name(self) -> str:
            return str(self._name)

        @property
        def dtype(self) -> Any:
            return trt.DataType["INT32" if major == 8 and self._kind == "INT64" else self._kind]

        @property
        def is_shape_tensor(self) -> bool:
            return False

    class ILayer(Strict):
        def __init__(self, operator: str) -> None:
            self._type = {"QuantizeLinear": "QUANTIZE", "DequantizeLinear": "DEQUANTIZE"}.get(operator, "CONSTANT")

        @property
        def type(self) -> Any:
            return trt.LayerType[self._type]

        if major < 11:
            precision_is_set = False

    class INetworkDefinition(Strict):
        def __init__(self, flags: int) -> None:
            self._flags, self._inputs, self._graph, self._layers = flags, [], None, []

        def __getitem__(self, index: int) -> Any:
            return self._layers[index]

        @property
        def num_inputs(self) -> int:
            return len(self._inputs)

        def get_input(self, index: int) -> Any:
            return self._inputs[index]

    class ParserError(Strict):
        def __init__(self, place: int, node: Any, said: str) -> None:
            self._place, self._node, self._said = place, node, said

        def desc(self) -> str:
            return self._said

        def node(self) -> int:
            return self._place

    class NamedParserError(ParserError):
        def node_name(self) -> str:
            return str(self._node.name)

        def node_operator(self) -> str:
            return str(self._node.op_type)

    class OnnxParser(Strict):
        def __init__(self, network: Any, logger: Any) -> None:
            trt._register(logger)
            self._network, self._errors = network, []

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> Any:
            return self._errors[index]

        def parse(self, content: bytes) -> bool:
            if major == 8 and not self._network._flags & 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH):
                trt._say("ERROR", "This version of the ONNX parser only supports networks with an explicit batch")
                return False
            try:
                model = onnx.load_from_string(content)
            except Exception:  # protobuf's classes differ by version
                trt._say("ERROR", "Failed to parse ONNX model from memory")
                return False
            error = ParserError if major == 8 else NamedParserError
            self._errors = [
                error(i, node, f"No importer registered for op: {node.op_type}")
                for i, node in enumerate(model.graph.node)
                if node.op_type in trt.state.refused_operators
            ]
            self._network._graph = content
            self._network._layers = [ILayer(node.op_type) for node in model.graph.node]
            self._network._inputs = [ITensor(value) for value in model.graph.input]
            return not self._errors

    class IOptimizationProfile(Strict):
        def __init__(self) -> None:
            self._shapes: dict[str, Any] = {}

        def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
            self._shapes[input] = [tuple(min), tuple(opt), tuple(max)]

    class ITimingCache(Strict):
        def __init__(self, content: bytes) -> None:
            self._content = content

        def serialize(self) -> HostMemory:
            return HostMemory(self._content)

        def combine(self, input_cache: Any, ignore_mismatch: bool) -> bool:
            return bool(input_cache._content.startswith(CACHE))

    class IBuilderConfig(Strict):
        SETTABLE = ("builder_optimization_level", "profiling_verbosity")
        DLA_core = -1

        def __init__(self) -> None:
            self.builder_optimization_level, self.profiling_verbosity = 3, trt.ProfilingVerbosity.LAYER_NAMES_ONLY
            self._flags, self._profiles, self._pools = {trt.BuilderFlag.TF32}, [], {}
            self._sources, self._cache = None, None

        @property
        def default_device_type(self) -> Any:
            return trt.DeviceType.GPU

        @property
        def num_optimization_profiles(self) -> int:
            return len(self._profiles)

        def get_flag(self, flag: Any) -> bool:
            return flag in self._flags

        def get_memory_pool_limit(self, pool: Any) -> int:
            return self._pools.get(pool, 0)

        def get_tactic_sources(self) -> int:
            return self._sources or 0

        def set_flag(self, flag: Any) -> None:
            self._flags.add(trt.BuilderFlag(flag))

        def clear_flag(self, flag: Any) -> None:
            self._flags.discard(trt.BuilderFlag(flag))

        def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
            self._pools[trt.MemoryPoolType(pool)] = pool_size

        def add_optimization_profile(self, profile: Any) -> int:
            bad = any(not all(a <= b <= c for a, b, c in zip(*s, strict=True)) for s in profile._shapes.values())
            self._profiles.append(profile)
            return -1 if bad else len(self._profiles) - 1

        def set_tactic_sources(self, tactic_sources: int) -> bool:
            self._sources = tactic_sources
            return True

        def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
            return ITimingCache(serialized_timing_cache)

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            if cache._content and not cache._content.startswith(CACHE):
                trt._say("WARNING", "The timing cache is of another device")
                return False
            self._cache = cache
            trt.state.caches.append(cache._content)
            return True

        def get_timing_cache(self) -> Any:
            return self._cache

    class Builder(Strict):
        def __init__(self, logger: Any) -> None:
            trt._register(logger)

        def create_network(self, flags: int = 0) -> Any:
            trt.state.last_flags = flags
            return INetworkDefinition(flags)

        def create_builder_config(self) -> Any:
            return IBuilderConfig()

        def create_optimization_profile(self) -> Any:
            return IOptimizationProfile()

        def build_serialized_network(self, network: Any, config: Any) -> HostMemory | None:
            trt.state.last_config = config
            fault = trt.state.build_fault or _build_fault(trt, major, network, config)
            if fault:
                trt._say("ERROR", fault)
                return None
            if config._cache is None:  # none was set, or one that it did not take
                config._cache = ITimingCache(b"")
            config._cache._content = config._cache._content + CACHE
            return HostMemory(_plan(trt, network, config))

    trt.Builder, trt.INetworkDefinition, trt.OnnxParser, trt.ParserError = (
        Builder, INetworkDefinition, OnnxParser, ParserError if major == 8 else NamedParserError,
    )  # fmt: skip
    trt.IBuilderConfig, trt.IOptimizationProfile, trt.ITimingCache, trt.ITensor, trt.ILayer = (
        IBuilderConfig, IOptimizationProfile, ITimingCache, ITensor, ILayer,
    )  # fmt: skip


def _build_fault(trt: Any, major: int, network: Any, config: Any) -> str | None:
    """Returns what the builder says of a network that it does not build."""
    flags = trt.NetworkDefinitionCreationFlag
    typed = major >= 11 or ("STRONGLY_TYPED" in flags.__members__ and network._flags & 1 << int(flags.STRONGLY_TYPED))
    names = {flag.name for flag in config._flags}
    quantized = any(node.op_type == "DequantizeLinear" for node in onnx.load_from_string(network._graph).graph.node)
    if typed and names & {"FP16", "INT8"}:
        return "Error Code 3: precision flags are set in a strongly typed network"
    if not typed and quantized and "INT8" not in names:
        return "INT8 mode needs to be enabled for networks with INT8 QuantizeLayer/DequantizeLayer layers"
    names = {tensor.name for tensor in network._inputs if -1 in tensor.shape}
    for name in names:
        if not config._profiles or any(name not in profile._shapes for profile in config._profiles):
            return "Network has dynamic or shape inputs, but no optimization profile has been defined."
    return None


def _plan(trt: Any, network: Any, config: Any) -> bytes:
    document = {
        "version": trt.__version__,
        "graph": base64.b64encode(network._graph).decode(),
        "shapes": {tensor.name: list(tensor.shape) for tensor in network._inputs},
        "profiles": [profile._shapes for profile in config._profiles] or [{}],
        "detailed": config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED,
    }
    return PREFIX + json.dumps(document).encode()


def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, driver: FakeDriver | None = None) -> Any:
    """Returns the module after putting it, and a GPU, in place of the real ones; timing caches go to `tmp_path`."""
    trt, present = make(version), driver or FakeDriver()
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setattr(cuda, "library", lambda: present)
    runtime = Cuda.__new__(Cuda)
    runtime.handle = present
    monkeypatch.setattr("polygraphy.cuda.cuda.G_CUDA", runtime)
    for name in ("config", "loader", "util"):  # each keeps the first TensorRT that it saw
        monkeypatch.setattr(importlib.import_module(f"polygraphy.backend.trt.{name}"), "trt", trt)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TENSORRT_TACTIC_SOURCES", raising=False)
    api.collector.cache_clear()
    trt.driver = present
    return trt
