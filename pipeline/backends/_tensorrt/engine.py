"""A loaded plan: dict of arrays in, dict of arrays out, through the calls that TensorRT 8.6, 10 and 11 share."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.backends import ordered_feeds
from pipeline.backends._tensorrt import cuda
from pipeline.backends._tensorrt import profile as inspection
from pipeline.backends._tensorrt.api import collector, listed, loaders, module, take_faults
from pipeline.backends._tensorrt.plan import PLAN, Note
from pipeline.backends._tensorrt.shapes import DYNAMIC, Profile, Shape, serving
from pipeline.errors import ArtifactError, EngineRefused
from pipeline.measure import precision

if TYPE_CHECKING:
    from pipeline.backends import Array

# Names of TensorRT's types; its own nptype() reads np.bool, which NumPy 1.24 to 1.26 do not have.
TYPES = {
    "FLOAT": "float32", "HALF": "float16", "INT8": "int8", "UINT8": "uint8", "INT32": "int32", "INT64": "int64",
    "BOOL": "bool",
}  # fmt: skip


class TensorRtEngine:
    """One plan on the first visible GPU. Not for several threads at a time."""

    def __init__(self, folder: Path, note: Note) -> None:
        """Raises ArtifactError for a file that TensorRT does not read."""
        from polygraphy.cuda import Stream
        from polygraphy.exception import PolygraphyException

        trt = module()
        take_faults(trt)
        self.precision = note.precision
        self._flops = note.flops
        self._runs: dict[int, Run] = {}  # by profile
        with cuda.faults("making a stream"):
            self._stream = Stream()
        self._runtime = trt.Runtime(collector(trt))  # must outlive the engine
        try:
            engine = loaders(trt).engine_from_bytes((folder / PLAN).read_bytes(), self._runtime)
        except PolygraphyException as error:
            raise ArtifactError(
                f"{folder / PLAN} cannot be read by TensorRT {trt.__version__}; it said:\n{listed(take_faults(trt))}"
            ) from error
        self._engine = engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        inputs = {name: engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        self.input_names = tuple(name for name in names if inputs[name])
        self.output_names = tuple(name for name in names if not inputs[name])
        self._types = {name: _numpy_type(engine.get_tensor_dtype(name).name, name) for name in names}
        self._is_open = any(DYNAMIC in tuple(engine.get_tensor_shape(name)) for name in self.input_names)
        self._profiles = profiles_of(engine, self.input_names)

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the outputs. Raises InputError for unknown inputs and for shapes that no profile takes."""
        arrays = self._typed(feeds)
        return self._for({name: x.shape for name, x in arrays.items()})(arrays)

    def resident(self, feeds: Mapping[str, Array]) -> Callable[[int], None]:
        """Returns a function that computes the outputs of `feeds` so many times in a row, and waits for the last.

        Inputs and outputs stay on the GPU: what is timed is no copy.
        """
        arrays = self._typed(feeds)
        run = self._for({name: x.shape for name, x in arrays.items()})
        run(arrays)  # uploads the inputs, loads the kernels

        def several(calls: int) -> None:
            for _ in range(calls):
                run.enqueue()
            with cuda.faults("running the engine"):
                self._stream.synchronize()

        return several

    def _typed(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the inputs in the engine's order and types: 8.6 takes token ids as int32 where the graph says int64.

        Raises InputError for a missing or unknown input.
        """
        import numpy as np

        ordered = ordered_feeds(feeds, self.input_names)
        return {name: np.ascontiguousarray(x, dtype=self._types[name]) for name, x in ordered.items()}

    def prepare(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Makes context and buffers for these shapes now, and runs once: the first run loads the kernels."""
        import numpy as np

        ordered = ordered_feeds(shapes, self.input_names)
        self({name: np.zeros(shape, self._types[name]) for name, shape in ordered.items()})

    def precision_report(self, feeds: Mapping[str, Array]) -> dict[str, Any]:
        """Returns what the engine inspector and TensorRT's profiler say of some runs on `feeds`."""
        arrays = self._typed(feeds)
        shapes = {name: x.shape for name, x in arrays.items()}
        index = serving(self._profiles, shapes)
        self._close(index)  # before 10 two contexts cannot share a profile; and a profiler slows every later run
        run = self._for(shapes)
        text, times = run.inspect(), run.profile(arrays)
        self._close(index)
        batch = next(iter(shapes.values()))[0]
        flops = {node: count * batch for node, count in self._flops.items()}
        return inspection.report(json.loads(text), flops, times, profile=index)

    def _for(self, shapes: Mapping[str, Shape]) -> Run:
        """Returns the run of the profile that takes these shapes, set to them."""
        index = serving(self._profiles, shapes)
        if index not in self._runs:
            profile = index if self._is_open else None
            self._runs[index] = Run(self._engine, self._stream, profile, self._types)
        self._runs[index].set_shapes(shapes, self.output_names)
        return self._runs[index]

    def _close(self, index: int) -> None:
        run = self._runs.pop(index, None)
        if run is not None:
            run.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # half made, or the driver is gone at the interpreter's end
            for index in list(self._runs):
                self._close(index)
            del self._engine, self._runtime
            self._stream.free()


class Run:
    """One execution context with its optimization profile and the memory of its tensors.

    profile: None for an engine without open shapes.
    """

    def __init__(self, engine: Any, stream: Any, profile: int | None, types: Mapping[str, Any]) -> None:
        from polygraphy.cuda import DeviceArray

        context = engine.create_execution_context()
        if context is None:
            raise EngineRefused(f"TensorRT makes no execution context; it said:\n{listed(take_faults(module()))}")
        self._engine, self._context, self._stream = engine, context, stream
        self._arrays = {name: DeviceArray((0,), dtype) for name, dtype in types.items()}
        self._types = types
        self._shapes: dict[str, Shape] = {}
        self._outputs: dict[str, Shape] = {}
        if profile is not None:
            # also the first one: before 10 only the first context of an engine has it without being told
            if not context.set_optimization_profile_async(profile, stream.ptr):
                raise EngineRefused(f"TensorRT refuses profile {profile}; it said:\n{listed(take_faults(module()))}")
            stream.synchronize()

    def set_shapes(self, shapes: Mapping[str, Shape], outputs: tuple[str, ...]) -> None:
        """Sets the input shapes and gives every tensor its memory; nothing where they are set already."""
        if shapes == self._shapes:
            return
        self._shapes = {}
        context = self._context
        for name, shape in shapes.items():
            if DYNAMIC in tuple(self._engine.get_tensor_shape(name)) and not context.set_input_shape(name, shape):
                raise EngineRefused(f"TensorRT refuses shape {list(shape)} of {name!r}: {take_faults(module())}")
        self._outputs = {name: tuple(context.get_tensor_shape(name)) for name in outputs}
        open_outputs = [name for name, shape in self._outputs.items() if DYNAMIC in shape]
        if open_outputs:
            raise EngineRefused(f"the sizes of {', '.join(open_outputs)} depend on the data, which is not supported.")
        for name, shape in (*shapes.items(), *self._outputs.items()):
            with cuda.faults(f"allocating {math.prod(shape) * self._types[name].itemsize / 2**20:.1f} MiB"):
                context.set_tensor_address(name, self._arrays[name].resize(shape).ptr)
        self._shapes = dict(shapes)

    def __call__(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Returns new arrays with the outputs for inputs of the shapes that are set."""
        import numpy as np

        found = {name: np.empty(shape, self._types[name]) for name, shape in self._outputs.items()}
        with cuda.faults("running the engine"):
            for name, array in arrays.items():
                self._arrays[name].copy_from(array, self._stream)
            self.enqueue()
            for name, array in found.items():
                self._arrays[name].copy_to(array, self._stream)
            self._stream.synchronize()
        return found

    def enqueue(self) -> None:
        """Lets the GPU compute the outputs of the inputs that were uploaded last; does not wait for it."""
        if not self._context.execute_async_v3(self._stream.ptr):
            raise EngineRefused(f"TensorRT does not run the engine; it said:\n{listed(take_faults(module()))}")

    def close(self) -> None:
        """Frees the memory of the tensors."""
        for array in self._arrays.values():
            array.free()

    def inspect(self) -> str:
        """Returns the engine inspector's JSON, sizes as they are for the shapes that are set."""
        trt, inspector = module(), self._engine.create_engine_inspector()
        inspector.execution_context = self._context
        return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))

    def profile(self, arrays: Mapping[str, Array]) -> dict[str, float]:
        """Returns milliseconds by layer, each layer's fastest of some runs. The context is slow from then on."""
        self(arrays)  # loads the kernels
        profiler, context = _profiler(module()), self._context
        context.profiler = profiler
        for _ in range(precision.PROFILED_RUNS):
            self(arrays)
        times: dict[str, float] = profiler.times
        return times


def _profiler(trt: Any) -> Any:
    """Returns a profiler that keeps each layer's shortest time, milliseconds, in `times`."""

    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times: dict[str, float] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times[layer_name] = min(ms, self.times.get(layer_name, ms))

    return Profiler()


def profiles_of(engine: Any, inputs: tuple[str, ...]) -> list[Profile]:
    """Returns the optimization profiles of a built engine."""
    fixed = {name: tuple(engine.get_tensor_shape(name)) for name in inputs}
    found: list[Profile] = []
    for index in range(engine.num_optimization_profiles if any(DYNAMIC in s for s in fixed.values()) else 1):
        profile: Profile = {}
        for name, shape in fixed.items():
            limits = engine.get_tensor_profile_shape(name, index) if DYNAMIC in shape else (shape, shape, shape)
            low, best, high = (tuple(limit) for limit in limits)
            profile[name] = (low, best, high)
        found.append(profile)
    return found


def _numpy_type(name: str, tensor: str) -> Any:
    import numpy as np

    if name not in TYPES:
        raise ArtifactError(f"the engine's {tensor!r} is of type {name}, which NumPy does not have.")
    return np.dtype(TYPES[name])
