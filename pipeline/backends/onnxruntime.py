"""ONNX Runtime: the int8 engine where OpenVINO is not wanted. The engine file is the optimized graph."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.backends import _defaults, missing_package, ordered_feeds
from pipeline.backends._onnxruntime_session import INSTALL, Session, session_options
from pipeline.backends._policy import Policy
from pipeline.measure import precision

if TYPE_CHECKING:
    from pipeline.backends import Array
    from pipeline.recipe import Recipe

NAME = "onnxruntime"
RANK = 30
FILES = ("model.ort.onnx",)
ON_GPU = OWN_FLOAT_GRAPHS = BUILT_ELSEWHERE = False

settings = _defaults.settings
precisions = _defaults.precisions
float_graph = _defaults.float_graph
command = _defaults.command
lint_target = _defaults.lint_target

# --- placement and dialect (read by the lower stage) ---

# Convolutions stay float but for 1×1 ones: as int8 they would need a Q/DQ on their outputs as well. Attention stays
# float: on tensors of its size, quantizing the operands takes what the int8 products save.
PLACEMENT = Policy(kinds=frozenset({"linear", "pointwise", "embedding"}))
DIALECT = (
    "transpose_images",
    "hoist_above_layout",
    "merge_equal_pairs",
    "store_int8_weights",
    "linear_pointwise",
    "sink_transposes",
    "unsigned_activations",
    "gather_int8_rows",
)


def dialect(recipe: Recipe) -> tuple[str, ...]:
    """Returns the graph passes, in order."""
    return _defaults.on_a_cpu(DIALECT, recipe)


# --- engine ---

# MatMul + bias becomes a Gemm, which matches no int8 pattern here (QGemm wants an int32 bias behind a DQ):
# the weights would be dequantized to float at every run.
DISABLED = ["MatMulAddFusion"]
SECOND_OPERAND = {"QLinearMatMul": 3, "QGemm": 3, "QLinearConv": 3}  # others: 1
PRODUCTS = ("MatMul", "FusedMatMul", "Gemm", "FusedGemm", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat")
CONVOLUTIONS = ("Conv", "FusedConv", "NhwcFusedConv", "QLinearConv")
FROM_INT8 = ("DequantizeLinear",)  # reads int8, computes in float


def unavailable_reason() -> str | None:
    """Returns why this backend cannot run here, None when it can."""
    return missing_package("onnxruntime", INSTALL)


def version() -> dict[str, str]:
    """Returns the packages that decide what build() makes."""
    import onnxruntime

    return {"onnxruntime": onnxruntime.__version__}


def build(graph: Path, area: Path, recipe: Recipe, precision: str = "int8") -> None:
    """Writes model.ort.onnx: the graph after ONNX Runtime's fusions, so that loading it needs no option.

    The extended level is the last one whose result runs on every CPU; layouts are chosen when it is loaded.
    """
    options = session_options(threads=1)
    import onnxruntime as ort

    area.mkdir(parents=True, exist_ok=True)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(area / FILES[0])
    disabled = DISABLED if precision == "int8" else []
    ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled)


def load(folder: Path, threads: int | None) -> OnnxRuntimeEngine:
    """Returns the engine of `folder`."""
    return OnnxRuntimeEngine(folder / FILES[0], session_options(threads))


class OnnxRuntimeEngine(Session):
    """The optimized graph; one session serves every shape."""

    def prepare(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Does nothing: ONNX Runtime plans memory per shape by itself, on the second run."""
        ordered_feeds(shapes, self.input_names)  # refuses unknown names like the others

    def precision_report(self, feeds: Mapping[str, Array]) -> dict[str, Any]:
        """Returns what ONNX Runtime's own profile says of a run on `feeds`.

        A second profile without weight packing gives the shapes: packed weights are missing from the first.
        """
        timed, shaped = self._profile(feeds, packed=True), self._profile(feeds, packed=False)
        return precision.summarize([_layer(event, shaped[node]) for node, event in timed.items()])

    def _profile(self, feeds: Mapping[str, Array], *, packed: bool) -> dict[str, dict[str, Any]]:
        """Returns the kernel event of every node, by node index, each node's fastest of some runs."""
        options = session_options(self._options.intra_op_num_threads)
        options.enable_profiling = True
        options.add_session_config_entry("session.disable_prepacking", "0" if packed else "1")
        with tempfile.TemporaryDirectory() as folder:
            options.profile_file_prefix = str(Path(folder) / "profile")
            profiled = Session(self._path, options)
            for _ in range(precision.PROFILED_RUNS):
                profiled(feeds)
            events = json.loads(Path(profiled._session.end_profiling()).read_text(encoding="utf-8"))
        kernels = [e for e in events if e["cat"] == "Node" and e["name"].endswith("_kernel_time")]
        slowest_first = sorted(kernels, key=lambda event: -event["dur"])
        return {e["args"]["node_index"]: e for e in slowest_first}  # later ones replace earlier ones


def _layer(event: dict[str, Any], shaped: dict[str, Any]) -> dict[str, Any]:
    """Returns the entry of one profiled kernel."""
    type_ = event["args"]["op_name"]
    inputs = [item for entry in shaped["args"]["input_type_shape"] for item in entry.items()]
    reads = inputs[0][0] if inputs else "other"
    return precision.layer(
        name=event["name"].removesuffix("_kernel_time"),
        type_=type_,
        precision="float" if type_ in FROM_INT8 else reads,
        kernel=f"{event['args']['provider']}:{type_}",
        flops=_flops(type_, [shape for _, shape in inputs], shaped["args"]["output_type_shape"]),
        ms=event["dur"] / 1e3,
    )


def _flops(type_: str, inputs: list[list[int]], outputs: list[dict[str, list[int]]]) -> int:
    if type_ not in PRODUCTS + CONVOLUTIONS or not outputs:
        return 0
    out = next(iter(outputs[0].values()))
    second = inputs[SECOND_OPERAND.get(type_, 1)]
    return precision.matmul_flops(inputs[0], second, out) if type_ in PRODUCTS else precision.conv_flops(second, out)
