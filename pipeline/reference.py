"""ONNX Runtime as the judge: the float model as users would run it, and a QDQ graph computed as written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.backends import missing_package, ordered_feeds
from pipeline.errors import ArtifactError, BackendUnavailable
from pipeline.evaluation import PROBES, Reference
from pipeline.machine import usable_cores

if TYPE_CHECKING:
    from pipeline.backends import Array

INSTALL = "pip install onnxruntime"
ROUNDS_HALF = (1, 30)  # seen: 1.23 to 1.29 give trunc(x / scale) for fp16 on a CPU, 1.30 and 1.31 round
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
SEED = 1  # of the dithers: equal files from equal graphs
TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


def missing() -> str | None:
    """Returns why there is no ONNX Runtime here and how to get it, None where there is."""
    return missing_package("onnxruntime", INSTALL)


def session_options(threads: int | None) -> Any:
    """Returns session options for `threads` threads that sleep between runs.

    By default ONNX Runtime's threads spin after a run and take the cores from whatever runs next, which would
    spoil every interleaved measurement; ONNX Runtime itself loses nothing by sleeping.
    """
    reason = missing()
    if reason is not None:
        raise BackendUnavailable(f"the float reference cannot run here: {reason}")
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = 3  # errors; warnings repeat per session and name nothing a user can act on
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


class Session:
    """One ONNX file in ONNX Runtime: dict of arrays in, dict of arrays out.

    provider: what runs it, the first of `providers` that this ONNX Runtime has and that loads.
    """

    def __init__(self, path: Path, options: Any, providers: Sequence[str] = (CPU,)) -> None:
        import numpy as np
        import onnxruntime as ort

        self._path = path
        self._options = options
        try:
            self._session = ort.InferenceSession(str(path), options, providers=list(providers))
        except Exception as error:  # ONNX Runtime's classes share no public base
            raise ArtifactError(f"{path} cannot be loaded by ONNX Runtime: {str(error).strip()[:300]}") from error
        self.provider = str(self._session.get_providers()[0])
        self._types = {x.name: np.dtype(TYPES[x.type]) for x in self._session.get_inputs()}
        self.input_names = tuple(self._types)
        self.output_names = tuple(x.name for x in self._session.get_outputs())

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        import numpy as np

        arrays = ordered_feeds(feeds, self.input_names)
        typed = {name: np.asarray(x, dtype=self._types[name]) for name, x in arrays.items()}
        return dict(zip(self.output_names, self._session.run(None, typed), strict=True))


def float_session(path: Path, threads: int | None = None, *, on_gpu: bool = False) -> Session:
    """Returns the float model with ONNX Runtime's default optimizations: what int8 is compared with.

    on_gpu: by CUDA where this ONNX Runtime has it, so that a GPU's engine is not compared with a CPU.
    """
    options = session_options(threads)
    import onnxruntime as ort

    asked = [CUDA] if on_gpu and CUDA in ort.get_available_providers() else []
    return Session(path, options, [*asked, CPU])


def exact_session(path: Path, threads: int | None = None) -> Session:
    """Returns a graph computed node by node as the file says: what an engine built from it must reproduce.

    Raises BackendUnavailable for fp16 Q/DQ on an ONNX Runtime that does not round them.
    """
    options = session_options(threads)
    import onnxruntime as ort

    if _version(ort.__version__) < ROUNDS_HALF and _quantizes_half(path):
        raise BackendUnavailable(
            f"onnxruntime {ort.__version__} truncates where QuantizeLinear of fp16 is to round, so it cannot say what "
            f"{path} computes: pip install 'onnxruntime>={'.'.join(map(str, ROUNDS_HALF))}' (Python 3.11 or newer)."
        )
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return Session(path, options)


def exact_outputs(graph: Path, reference: Reference, threads: int | None) -> dict[str, Array]:
    """Returns what a graph computes of the first PROBES held-out samples as one batch, [PROBES, …]; see above."""
    return exact_session(graph, threads)(reference.first(PROBES).inputs)


def dithered_outputs(
    graph: Path, inputs: Mapping[str, Array], threads: int | None, count: int
) -> list[dict[str, Array]]:
    """Returns what `count` neighbours of a graph compute of these inputs: see pipeline.graph.dither."""
    import tempfile

    import onnx_ir as ir

    from pipeline.graph.dither import dither

    model = ir.load(graph)
    dither(model, SEED)
    with tempfile.TemporaryDirectory(prefix="dither-") as folder:
        ir.save(model, Path(folder) / "dithered.onnx")
        session = exact_session(Path(folder) / "dithered.onnx", threads)
    return [session(inputs) for _ in range(count)]  # the generators go on: another dither every time


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


def _quantizes_half(path: Path) -> bool:
    """Returns whether a QuantizeLinear of the graph has an fp16 scale, and so an fp16 input."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    half = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    return any(node.op_type == "QuantizeLinear" and node.input[1] in half for node in graph.node)
