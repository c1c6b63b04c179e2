"""TensorRT, 8.6 to 11: the engine on NVIDIA GPUs. Its kernels read the Q/DQ pairs of the graph as they stand.

_tensorrt/build.py     ONNX -> plan           _tensorrt/engine.py     plan -> outputs
_tensorrt/shapes.py    optimization profiles  _tensorrt/profile.py    the engine inspector -> precision report
_tensorrt/plan.py      plan.json
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.backends import missing_package
from pipeline.backends._policy import PRECISIONS, Policy
from pipeline.backends._tensorrt import api, shapes
from pipeline.backends._tensorrt import plan as plans
from pipeline.backends._tensorrt.cuda import device, missing_runtime
from pipeline.errors import BackendUnavailable, InputError

if TYPE_CHECKING:
    from pipeline.backends import Engine
    from pipeline.backends._tensorrt.build import Settings
    from pipeline.recipe import Recipe

NAME = "tensorrt"
RANK = 10
ON_GPU = OWN_FLOAT_GRAPHS = BUILT_ELSEWHERE = True
FILES = (plans.PLAN, plans.NOTE)

# --- placement and dialect (read by the lower stage) ---

# Depthwise convolutions have no regular int8 kernel, a table gathers no faster, an add has its Q/DQ where the recipe
# asks; attention stays int8 only where TensorRT has a fused int8 kernel for it (the pass keep_fused_attention).
PLACEMENT = Policy(kinds=frozenset({"linear", "conv", "pointwise", "scores", "context"}))
DIALECTS: Mapping[str, tuple[str, ...]] = {
    # TensorRT 8.6: types by builder flags, fp32 scales, weights float -> Q -> DQ
    "8.6": ("keep_fused_attention", "sink_below_layout", "merge_equal_pairs", "opset_17"),
    # TensorRT 10 and 11: strongly typed, the remainder and the scales fp16, weights int8 -> DQ
    "10": (
        "half_scales",
        "keep_fused_attention",
        "sink_below_layout",
        "merge_equal_pairs",
        "store_int8_weights",
        "half_precision",
    ),
}
HALF = "half_"  # how the names of the passes begin that an fp32 engine goes without


def target(recipe: Recipe) -> str:
    """Returns the dialect that a recipe asks for; "auto" is the installed TensorRT's, "10" where none is installed."""
    asked = recipe.tensorrt.target
    if asked != "auto":
        return asked
    version = api.present()
    return "10" if version is None else target_of(version)


def target_of(version: str) -> str:
    """Returns the dialect of a TensorRT version."""
    return "8.6" if api.version_numbers(version)[0] < 9 else "10"


def dialect(recipe: Recipe) -> tuple[str, ...]:
    """Returns the graph passes of the recipe's target, in order."""
    return DIALECTS[target(recipe)]


# --- engine ---


def unavailable_reason() -> str | None:
    """Returns why this backend cannot run here, None when it can."""
    if device() is None:
        return (
            "TensorRT needs an NVIDIA GPU with its driver (none is found here): install the driver; "
            "without a GPU use BACKEND=openvino"
        )
    missing = missing_package("tensorrt", api.install_command())
    if missing is not None:
        return missing
    version = api.installed()
    if version is None or api.version_numbers(version) < api.OLDEST:
        return f"TensorRT {version or 'of unknown version'} is older than 8.6: {api.install_command()}"
    return missing_package("polygraphy", "pip install polygraphy") or missing_runtime()


def version() -> dict[str, str]:
    """Returns what decides what build() makes: TensorRT's version and the GPU."""
    made = maker()
    return {"tensorrt": made.tensorrt, "gpu": made.gpu, "compute capability": made.compute_capability}


def maker() -> plans.Maker:
    """Returns the TensorRT and the GPU of this machine. Raises BackendUnavailable where one is missing."""
    _require()
    found, installed = device(), api.installed()
    assert found is not None and installed is not None
    return plans.Maker(installed, found.name, found.compute_capability)


def _require() -> None:
    reason = unavailable_reason()
    if reason is not None:
        raise BackendUnavailable(f"backend {NAME!r} cannot run here: {reason}")


def build(graph: Path, area: Path, recipe: Recipe, precision: str = "int8") -> None:
    """Writes model.plan and plan.json.

    graph: the QDQ graph; precision: "int8", which is built from it, "fp16" or "fp32", from the float graph beside it.
    """
    from pipeline.backends._tensorrt import build as building
    from pipeline.backends._tensorrt import nodes

    present = maker()
    content, name = graph_for(graph, recipe, precision)
    settings = _settings(recipe, precision, present)
    plan, profiles = building.build_plan(content, name, settings)
    area.mkdir(parents=True, exist_ok=True)
    (area / plans.PLAN).write_bytes(plan)
    plans.Note(
        maker=present,
        target=settings.target,
        precision=precision,
        graph_sha256=hashlib.sha256(content).hexdigest(),
        profiles=[{n: [list(limit) for limit in limits] for n, limits in p.items()} for p in profiles],
        settings={
            "workspace_mib": settings.workspace_mib,
            "optimization_level": settings.optimization_level,
            "tactic_sources": building.tactic_sources(),
        },
        flops=nodes.flops(content, recipe.shapes),
    ).write(area)


def _settings(recipe: Recipe, precision: str, present: plans.Maker) -> Settings:
    from pipeline.backends._tensorrt.build import Settings
    from pipeline.backends._tensorrt.cache import Key

    asked = target(recipe)
    return Settings(
        target=asked,
        precision=precision,
        shapes=recipe.shapes,
        workspace_mib=recipe.tensorrt.workspace_mib,
        optimization_level=recipe.tensorrt.optimization_level,
        cache=Key(present.tensorrt, present.gpu, present.compute_capability, asked),
    )


def settings(recipe: Recipe) -> dict[str, Any]:
    """Returns what of the recipe a plan depends on: its own section, and the shapes of its profiles."""
    return {"tensorrt": recipe.tensorrt.model_dump(), "shapes": recipe.shapes.model_dump(mode="json")}


def precisions(recipe: Recipe) -> tuple[str, ...]:
    """Returns the precisions to build: the recipe's, or for "auto" all, int8 first."""
    asked = recipe.tensorrt.precision
    return PRECISIONS if asked == "auto" else (asked,)


def graph_for(qdq_onnx: Path, recipe: Recipe, precision: str) -> tuple[bytes, str]:
    """Returns the ONNX bytes that a plan is built from, and what errors call them.

    A float plan is built from model.<precision>.onnx beside the QDQ graph, or where that is missing from the artifact
    folder's model.onnx, which needs onnx-ir. Raises InputError where neither can be had.
    """
    written = qdq_onnx if precision == "int8" else qdq_onnx.with_name(f"model.{precision}.onnx")
    if precision == "int8" or written.is_file():
        return written.read_bytes(), str(written)
    source = recipe.folder / "model.onnx"
    reason = missing_package("onnx_ir", "pip install onnx-ir") if source.is_file() else f"{source} is missing"
    if reason is not None:
        raise InputError(
            f"the {precision} plan needs {written}, or {source} and onnx-ir: {reason}. Without them use "
            '--set tensorrt.precision="int8".'
        )
    return float_graph(source, recipe, precision), f"{source} in {precision}"


def float_graph(model_onnx: Path, recipe: Recipe, precision: str) -> bytes:
    """Returns the float model in the target's dialect, what int8 is compared with: fp16 where the target is strongly
    typed and `precision` says so, else fp32.
    """
    import onnx_ir as ir

    from pipeline.graph import apply

    model = ir.load(model_onnx)
    apply(model, [name for name in dialect(recipe) if precision != "fp32" or not name.startswith(HALF)])
    return bytes(ir.to_proto(model).SerializeToString())


def load(folder: Path, threads: int | None) -> Engine:
    """Returns the engine of `folder`; threads are a CPU's. Raises ArtifactError for a plan of another machine."""
    _require()
    from pipeline.backends._tensorrt.engine import TensorRtEngine

    note = plans.read(folder)
    plans.check(note, maker(), folder)
    return TensorRtEngine(folder, note)


def lint_target(recipe: Recipe) -> str:
    """Returns whose rules the QDQ graph is held to."""
    return target(recipe)


def command(qdq_onnx: Path, area: Path, recipe: Recipe) -> list[str]:
    """Returns the command that builds the plan in `area` where TensorRT and a GPU are."""
    return trtexec(qdq_onnx, area / plans.PLAN, recipe)


def trtexec(qdq: Path, plan: Path, recipe: Recipe) -> list[str]:
    """Returns the command that builds a plan from the QDQ graph by TensorRT's own tool, as a list of arguments.

    8.6's tool takes one optimization profile and the precisions as flags, 10's several and none; 11 types every network
    strongly.
    """
    inputs = {name: shape for name, shape in shapes.inputs_of(qdq).items() if shapes.DYNAMIC in shape}
    found = shapes.profiles(inputs, recipe.shapes) if inputs else []  # the tool takes no shapes of a fixed input
    version = api.present()
    if target(recipe) == "8.6":
        typing, found = ["--int8", "--fp16"], [shapes.spanning(found)] if found else []
    else:
        newest = version is not None and api.version_numbers(version)[0] >= 11
        typing = [] if newest else ["--stronglyTyped"]
    return [
        "trtexec",
        f"--onnx={qdq}",
        f"--saveEngine={plan}",
        *typing,
        *(argument for index, profile in enumerate(found) for argument in _profile(index, profile, len(found))),
        f"--memPoolSize=workspace:{recipe.tensorrt.workspace_mib}",
        f"--builderOptimizationLevel={recipe.tensorrt.optimization_level}",
        f"--timingCacheFile={plan.with_suffix('.timing')}",
        "--profilingVerbosity=detailed",
        f"--exportLayerInfo={plan.with_suffix('.layers.json')}",
        "--skipInference",
    ]


def _profile(index: int, profile: shapes.Profile, of: int) -> list[str]:
    limits = (("--minShapes", 0), ("--optShapes", 1), ("--maxShapes", 2))
    arguments = [f"{option}={shapes.specification(profile, which)}" for option, which in limits]
    return [f"--profile={index}", *arguments] if of > 1 else arguments
