"""ONNX Runtime as the judge: the float model as users would run it, and a QDQ graph computed as written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.backends._onnxruntime_session import CPU, CUDA, Session, missing, session_options
from pipeline.errors import BackendUnavailable
from pipeline.judge.evaluation import PROBES, Reference

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.backends import Array

__all__ = [
    "CPU",
    "CUDA",
    "Session",
    "dithered_outputs",
    "exact_outputs",
    "exact_session",
    "float_graphs",
    "float_session",
    "missing",
]

ROUNDS_HALF = (1, 30)  # measured: 1.23 to 1.29 give trunc(x / scale) for fp16 on a CPU, 1.30 and 1.31 round
SEED = 1  # of the dithers: equal files from equal graphs


def float_graphs(workspace: Workspace) -> dict[str, Path]:
    """Returns the float graphs to compare with: the checkpoint's own, and the rewritten one if there is one."""
    if "original.onnx" not in workspace.manifest.files:
        return {"float_ort": workspace.path("model.onnx")}
    return {
        "float_ort": workspace.path("original.onnx"),
        "float_ort_rewritten": workspace.path("model.onnx"),
    }


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
            f"onnxruntime {ort.__version__} truncates where QuantizeLinear of fp16 must round, so it cannot say what "
            f"{path} computes: pip install 'onnxruntime>={'.'.join(map(str, ROUNDS_HALF))}' (Python 3.11 or newer)."
        )
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return Session(path, options)


def exact_outputs(graph: Path, reference: Reference, threads: int | None) -> dict[str, Array]:
    """Returns what a graph computes for the first PROBES held-out samples as one batch, [PROBES, …]."""
    return exact_session(graph, threads)(reference.first(PROBES).inputs)


def dithered_outputs(
    graph: Path, inputs: Mapping[str, Array], threads: int | None, count: int
) -> list[dict[str, Array]]:
    """Returns what `count` neighbours of a graph compute for these inputs (see `pipeline.graph.dither`)."""
    import tempfile

    import onnx_ir as ir

    from pipeline.graph.dither import dither

    model = ir.load(graph)
    dither(model, SEED)
    with tempfile.TemporaryDirectory(prefix="dither-") as folder:
        ir.save(model, Path(folder) / "dithered.onnx")
        session = exact_session(Path(folder) / "dithered.onnx", threads)
    return [session(inputs) for _ in range(count)]  # the generators run on: another dither every time


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


def _quantizes_half(path: Path) -> bool:
    """Returns whether a QuantizeLinear of the graph has an fp16 scale, and so an fp16 input."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    half = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    return any(node.op_type == "QuantizeLinear" and node.input[1] in half for node in graph.node)
