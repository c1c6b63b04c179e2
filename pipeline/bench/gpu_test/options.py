"""Int8 engines that differ from ours in one choice, lowered from a folder's candidates where the GPU is."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.backends import missing_package, tensorrt
from pipeline.backends._policy import Policy
from pipeline.bench.methods.tensorrt import METHODS, TensorRt, timed_build
from pipeline.judge.evaluation import EXACT, Reference
from pipeline.judge.soundness import Expected
from pipeline.lowering import Candidates, placement, selection
from pipeline.run import Run

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.recipe import Recipe

BASE, DEFAULT = "tensorrt_fp16", "tensorrt_int8"  # what int8 is compared with, and our own
ATTENTION = frozenset({"scores", "context"})
Form = Literal["standard", "int8 weights", "fp16 scales", "fp32 scales"]


@dataclass(frozen=True, kw_only=True)
class Option(TensorRt):
    """One other way to lower a model to int8.

    against: the method that it differs from in one point. question: what only a GPU can answer; such an engine may
    fail. attention: int8 where TensorRT has a fused kernel. more: kinds of operators in int8 beside the backend's.
    targets: the dialects of the TensorRT that it is for.
    """

    against: str = DEFAULT
    question: str | None = None
    residual: Literal["none", "residual", "both"] = "none"
    attention: bool = True
    more: frozenset[str] = frozenset()
    form: Form = "standard"
    targets: tuple[str, ...] = ("8.6", "10")
    families: tuple[str, ...] = ("bert", "segformer")

    def usual(self) -> bool:
        return False

    def unavailable_reason(self) -> str | None:
        return (
            super().unavailable_reason()
            or missing_package("onnx_ir", "pip install onnx-ir")
            or missing_package("onnxruntime", "pip install onnxruntime")
        )

    def made_from(self, workspace: Workspace, recipe: Recipe) -> dict[str, Any]:
        files = ("candidates.onnx", "calibration.json", "calibration.npz")
        return {**super().made_from(workspace, recipe), **{file: workspace.digest(file) for file in files}}

    def build_anew(self, workspace: Workspace, area: Path, recipe: Recipe) -> float:
        from pipeline.graph.write import write_checked

        run = Run(self.with_option(recipe), workspace)
        kinds = placement.default(tensorrt.NAME, recipe.family).policy.kinds | self.more
        policy = Policy(kinds if self.attention else kinds - ATTENTION)
        lowered = Candidates(run).lower(selection.choice_of(run), policy, self.passes(tensorrt.target(recipe)))
        with tempfile.TemporaryDirectory(prefix="gpu-test-") as scratch:  # hundreds of megabytes, needed once
            graph = Path(scratch) / "model.qdq.onnx"
            write_checked(lowered.graph, graph)
            reference = Reference.read(workspace)
            Expected.computed(graph, reference, recipe.verification.threads).write(area / EXACT)
            return timed_build(graph, area, recipe, self.precision)

    def expected(self, workspace: Workspace, area: Path, reference: Reference) -> Expected:
        return Expected.stored(area / EXACT, workspace)

    def with_option(self, recipe: Recipe) -> Recipe:
        """Returns the recipe with the option's residual adds."""
        chosen = recipe.placement.model_copy(update={"residual": self.residual})
        return recipe.model_copy(update={"placement": chosen})

    def passes(self, target: str) -> tuple[str, ...]:
        """Returns the graph passes for a TensorRT of dialect `target`."""
        names = tensorrt.DIALECTS["10" if self.form == "fp16 scales" else target]
        if self.form == "fp32 scales":
            return tuple(name for name in names if not name.startswith(tensorrt.HALF))
        if self.form == "int8 weights":
            at = names.index("opset_17")
            return (*names[:at], "store_int8_weights", *names[at:])
        return names


def option(label: str, **choices: Any) -> Option:
    """Returns an option of our int8 engine."""
    return Option(f"{METHODS[DEFAULT].label}, {label}", tensorrt.NAME, **choices)


SKIP, BOTH = "the skip branch of adds in int8", "both inputs of adds in int8"
OPTIONS: Mapping[str, Option] = {
    "tensorrt_int8_residual": option(SKIP, residual="residual"),
    "tensorrt_int8_both": option(BOTH, residual="both"),
    "tensorrt_int8_attention_float": option("attention float", attention=False),
    "tensorrt_int8_residual_attention_float": option(
        f"{SKIP}, attention float", residual="residual", attention=False, against="tensorrt_int8_residual"
    ),
    "tensorrt_int8_both_attention_float": option(
        f"{BOTH}, attention float", residual="both", attention=False, against="tensorrt_int8_both"
    ),
    "tensorrt_int8_initializers": option(
        "weights stored as int8",
        targets=("8.6",),
        form="int8 weights",
        question="does TensorRT 8.6 take int8 initializers as weights?",
    ),
    "tensorrt_int8_depthwise": option(
        "depthwise convolutions too",
        more=frozenset({"depthwise"}),
        families=("segformer",),
        question="do depthwise convolutions gain from int8?",
    ),
    "tensorrt_int8_fp16_scales": option(
        "fp16 scales and remainder in the graph",
        targets=("8.6",),
        form="fp16 scales",
        question="does TensorRT 8.6 read fp16 scales right?",
    ),
    "tensorrt_int8_fp32_scales": option(
        "fp32 scales and remainder",
        targets=("10",),
        form="fp32 scales",
        question="what do fp16 scales and an fp16 remainder gain?",
    ),
}


def of(family: str, target: str) -> dict[str, TensorRt]:
    """Returns the methods for a family's models with a TensorRT of dialect `target`, ours and the float ones first."""
    chosen = {name: o for name, o in OPTIONS.items() if family in o.families and target in o.targets}
    return {**METHODS, **chosen}
