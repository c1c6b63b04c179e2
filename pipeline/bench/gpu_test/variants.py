"""Which models are measured, and which engines of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import InputError, near_names

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

TARGETS = ("8.6", "10")
BATCHES = (1, 8, 32)
TOKENS, PIXELS = 128, 512
BASE = "fp16"  # what int8 is compared with
DEFAULT = "int8"
CORE = (BASE, DEFAULT, "fp32")  # built and timed first: they answer the targets
ATTENTION = frozenset({"scores", "context"})

Form = Literal["standard", "int8 weights", "fp16 scales", "fp32 scales"]


@dataclass(frozen=True)
class Subject:
    """One model. shape: a published one with random weights, whose speed means something and whose accuracy nothing.

    settings: of its recipe. judged: held-out samples that accuracy is taken on, 0 for random weights.
    """

    name: str
    family: str
    judged: int
    shape: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    batches: tuple[int, ...] = BATCHES

    def recipe(self, root: Path, target: str, residual: str = "none") -> Recipe:
        """Returns the recipe of its artifact folder under `root`, for one TensorRT dialect."""
        from pipeline.recipe import Recipe

        own = {"shapes.sequence_length": TOKENS, "shapes.image_size": PIXELS, "folder": root / f"gpu-{self.name}"}
        mine = {
            "backend": "tensorrt",
            "tensorrt.target": target,
            "placement.residual": residual,
            "shapes.batches": self.batches,
        }
        return Recipe.load(self.family, overrides={**own, **self.settings, **mine})


@dataclass(frozen=True)
class Variant:
    """One way to make an engine of a model.

    targets: the dialects of the TensorRT that it is for. attention: int8 where TensorRT has a fused kernel. more: kinds
    of operators in int8 beside the backend's. against: the variant that it differs from in one point. question: what
    only a GPU can answer; such an engine may fail.
    """

    name: str
    label: str
    precision: str = "int8"
    targets: tuple[str, ...] = TARGETS
    residual: str = "none"
    attention: bool = True
    more: frozenset[str] = frozenset()
    form: Form = "standard"
    families: tuple[str, ...] = ("bert", "segformer")
    against: str | None = None
    question: str | None = None

    def passes(self, target: str) -> tuple[str, ...]:
        """Returns the graph passes for a TensorRT of dialect `target`."""
        from pipeline.backends.tensorrt import DIALECTS, HALF

        names = DIALECTS["10" if self.form == "fp16 scales" else target]
        if self.form == "fp32 scales":
            return tuple(name for name in names if not name.startswith(HALF))
        if self.form == "int8 weights":
            at = names.index("opset_17")
            return (*names[:at], "store_int8_weights", *names[at:])
        return names


SUBJECTS = (
    Subject("bert-base", "bert", judged=0, shape="bert-base"),
    Subject("segformer-b0", "segformer", judged=0, shape="segformer-b0"),
    Subject("bert", "bert", judged=256),
    Subject("segformer", "segformer", judged=32),
)
ADDS = {"none": "", "residual": "the skip branch of adds in int8", "both": "both inputs of adds in int8"}
VARIANTS = (
    Variant("fp32", "float, fp32", precision="fp32"),
    Variant("fp16", "float, fp16", precision="fp16"),
    Variant("int8", "int8"),
    Variant("int8-residual", f"int8, {ADDS['residual']}", residual="residual", against="int8"),
    Variant("int8-both", f"int8, {ADDS['both']}", residual="both", against="int8"),
    Variant("int8-attention-fp16", "int8, attention float", attention=False, against="int8"),
    Variant(
        "int8-residual-attention-fp16",
        f"int8, {ADDS['residual']}, attention float",
        residual="residual",
        attention=False,
        against="int8-residual",
    ),
    Variant(
        "int8-both-attention-fp16",
        f"int8, {ADDS['both']}, attention float",
        residual="both",
        attention=False,
        against="int8-both",
    ),
    Variant(
        "int8-initializers",
        "int8, weights stored as int8",
        targets=("8.6",),
        form="int8 weights",
        against="int8",
        question="does TensorRT 8.6 take int8 initializers as weights?",
    ),
    Variant(
        "int8-depthwise",
        "int8, depthwise convolutions too",
        more=frozenset({"depthwise"}),
        families=("segformer",),
        against="int8",
        question="do depthwise convolutions gain from int8?",
    ),
    Variant(
        "int8-fp16-scales",
        "int8, fp16 scales and remainder in the graph",
        targets=("8.6",),
        form="fp16 scales",
        against="int8",
        question="does TensorRT 8.6 read fp16 scales right?",
    ),
    Variant(
        "int8-fp32-scales",
        "int8, fp32 scales and remainder",
        targets=("10",),
        form="fp32 scales",
        against="int8",
        question="what do fp16 scales and an fp16 remainder gain?",
    ),
)


def variants_of(family: str, target: str) -> list[Variant]:
    """Returns the engines to make of a family's models with a TensorRT of dialect `target`."""
    return [v for v in VARIANTS if family in v.families and target in v.targets]


def chosen(names: Sequence[str]) -> list[Subject]:
    """Returns the subjects of these names, all for none. Raises InputError with the near names for an unknown one."""
    known = {subject.name: subject for subject in SUBJECTS}
    for name in names:
        if name not in known:
            raise InputError(f"unknown subject {name!r}.{near_names(name, known)}")
    return [known[name] for name in names] or list(SUBJECTS)
