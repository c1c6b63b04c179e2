"""OpenVINO: the int8 engine on CPUs. Its low-precision passes turn Q/DQ around an operator into int8."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.backends import _defaults, _openvino_profile, missing_package, ordered_feeds
from pipeline.backends._policy import Policy
from pipeline.errors import ArtifactError, InputError
from pipeline.measure.machine import usable_cores

if TYPE_CHECKING:
    from pipeline.backends import Array
    from pipeline.recipe import Recipe

NAME = "openvino"
RANK = 20
FILES = ("model.xml", "model.bin")
ON_GPU = OWN_FLOAT_GRAPHS = BUILT_ELSEWHERE = False

settings = _defaults.settings
precisions = _defaults.precisions
float_graph = _defaults.float_graph
command = _defaults.command
lint_target = _defaults.lint_target

# --- placement and dialect (read by the lower stage) ---

PLACEMENT = Policy(kinds=frozenset({"linear", "conv", "pointwise", "depthwise", "embedding", "scores", "context"}))
# Unsigned activations: with signed ones OpenVINO 2026.4 is silently wrong on convolutions behind a Concat (SegFormer's
# original head); the parity check of the engine stage refuses those engines. Both forms are equally fast.
DIALECT = (
    "transpose_images",
    "hoist_above_layout",
    "merge_equal_pairs",
    "store_int8_weights",
    "unsigned_activations",
    "gather_int8_rows",
)


def dialect(recipe: Recipe) -> tuple[str, ...]:
    """Returns the graph passes, in order."""
    return _defaults.on_a_cpu(DIALECT, recipe)


# --- engine ---

Shapes = tuple[tuple[int, ...], ...]

MOST_COMPILED = 8  # each holds its own weights in memory


def unavailable_reason() -> str | None:
    """Returns why this backend cannot run here, None when it can."""
    return missing_package("openvino", "pip install openvino")


def version() -> dict[str, str]:
    """Returns the packages that decide what build() makes."""
    import openvino

    return {"openvino": openvino.__version__}


def build(graph: Path, area: Path, recipe: Recipe, precision: str = "int8") -> None:
    """Writes model.xml and model.bin: the graph in OpenVINO's form, int8 where it is, the rest float32."""
    import openvino

    model = openvino.Core().read_model(graph)
    area.mkdir(parents=True, exist_ok=True)
    openvino.save_model(model, area / FILES[0], compress_to_fp16=False)  # the default halves float constants


def load(folder: Path, threads: int | None) -> OpenVinoEngine:
    """Returns the engine of `folder`; nothing is compiled before the first call or prepare()."""
    return OpenVinoEngine(folder / FILES[0], threads or usable_cores())


class OpenVinoEngine:
    """Compiles once for each set of input shapes, on the first call with it or in `prepare`, and keeps the
    last ones. Any thread may call it: each has infer requests of its own.

    Never for open shapes: OpenVINO 2026.4 then gets signed int8 convolutions behind a Transpose wrong where
    their output's shape is asked for too (SegFormer at 18 dB to the exact graph, 46 dB with fixed shapes).
    """

    def __init__(self, xml: Path, threads: int) -> None:
        import openvino

        self._threads = threads
        self._core = openvino.Core()
        # read once, into memory: what lies on disk later is another engine, and none that was checked
        self._core.set_property({"ENABLE_MMAP": False})
        try:
            self._model = self._core.read_model(xml)
        except RuntimeError as error:
            raise ArtifactError(f"{xml} cannot be read by OpenVINO ({_first_line(error)}).") from error
        self._types = {port.any_name: port.element_type.to_dtype() for port in self._model.inputs}
        self.input_names = tuple(self._types)
        self.output_names = tuple(port.any_name for port in self._model.outputs)
        self._compiled: OrderedDict[Shapes, Any] = OrderedDict()
        self._compiling = threading.Lock()
        self._own = threading.local()

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        import numpy as np

        ordered = ordered_feeds(feeds, self.input_names)
        arrays = {name: np.ascontiguousarray(x, dtype=self._types[name]) for name, x in ordered.items()}
        request = self._request({name: x.shape for name, x in arrays.items()})
        results = request.infer(arrays, share_inputs=True)
        return {name: results[i] for i, name in enumerate(self.output_names)}

    def prepare(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Compiles for these shapes now, so that the first call with them is as fast as the others."""
        self._for_shapes(ordered_feeds(shapes, self.input_names))

    def _request(self, shapes: Mapping[str, tuple[int, ...]]) -> Any:
        """Returns this thread's infer request for some shapes: one is busy until its call returns."""
        compiled = self._for_shapes(shapes)
        requests: OrderedDict[int, tuple[Any, Any]] = self._own.__dict__.setdefault("requests", OrderedDict())
        if id(compiled) not in requests:
            requests[id(compiled)] = (compiled, compiled.create_infer_request())
            if len(requests) > MOST_COMPILED:
                requests.popitem(last=False)
        requests.move_to_end(id(compiled))
        return requests[id(compiled)][1]

    def _for_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> Any:
        key = tuple(tuple(shape) for shape in shapes.values())
        with self._compiling:
            if key not in self._compiled:
                self._compiled[key] = self._compile(self._shaped(shapes), profile=False)
                if len(self._compiled) > MOST_COMPILED:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(key)
            return self._compiled[key]

    def precision_report(self, feeds: Mapping[str, Array]) -> dict[str, Any]:
        """Returns what the compiled graph's own performance counters say of a run on `feeds`."""
        arrays = ordered_feeds(feeds, self.input_names)
        model = self._shaped({name: x.shape for name, x in arrays.items()})
        products = _openvino_profile.products(model)  # before compilation, which changes the model
        return _openvino_profile.report(self._compile(model, profile=True), products, arrays)

    def _shaped(self, shapes: Mapping[str, tuple[int, ...]]) -> Any:
        """Returns the graph with its input shapes fixed. Raises InputError for shapes that it cannot take."""
        model = self._model.clone()
        try:
            model.reshape({name: list(shape) for name, shape in shapes.items()})
        except RuntimeError as error:
            taken = {port.any_name: port.partial_shape.to_string() for port in model.inputs}
            raise InputError(
                f"the engine cannot take inputs of shapes {dict(shapes)}; it takes {taken}: {_first_line(error)}"
            ) from error
        return model

    def _compile(self, model: Any, *, profile: bool) -> Any:
        options: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # CPUs with AMX would compute the float part in bf16
        }
        if profile:
            options["PERF_COUNT"] = True
        return self._core.compile_model(model, "CPU", options)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip() if str(error).strip() else type(error).__name__
