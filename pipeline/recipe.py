"""Everything that decides a run, as one frozen, validated object read from TOML or YAML plus overrides."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    field_validator,
    model_validator,
)

from pipeline.checkpoint import image_size
from pipeline.checkpoint.image_size import ImageSize
from pipeline.errors import InputError, near_names

CalibrationMethod = Literal["max", "percentile", "mse", "entropy", "auto"]


# a record of it is a number or a text, as it is given
Size = Annotated[ImageSize, PlainValidator(image_size.parse), PlainSerializer(lambda size: size.setting)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Shapes(_Section):
    """Input shapes; a family reads the fields it has."""

    sequence_length: int = Field(128, ge=8, le=8192, description="tokens per sample; longer texts are cut")
    image_size: Size | None = Field(
        None,
        description="pixels, a multiple of 32 (512), or height x width (512x1024); None: those of the checkpoint's "
        "image processor",
    )
    window_stride: Size | None = Field(
        None,
        description="images keep their size, and windows of image_size slide over them, this many pixels apart (384, "
        "or height x width); None: images are resized",
    )
    choices: int = Field(4, ge=2, le=64, description="choices of a question, which a TensorRT plan is built for")
    batches: tuple[int, ...] = Field((1, 2, 4, 8), description="batch sizes the engine is verified at")

    @field_validator("batches")
    @classmethod
    def _starts_at_one(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or any(b < 1 or b > 1024 for b in value):
            raise ValueError("batch sizes must be between 1 and 1024")
        return tuple(sorted({1, *value}))

    @model_validator(mode="after")
    def _without_gaps(self) -> Shapes:
        steps, sides = self.window_stride, self.image_size
        if steps and sides and any(step > side for step, side in zip(steps, sides, strict=True)):
            from pydantic_core import PydanticCustomError

            said = f"shapes.window_stride = {steps} leaves pixels between windows of {sides}; give at most that"
            raise PydanticCustomError("contradiction", "{said}", {"said": said})
        return self


class Calibration(_Section):
    method: CalibrationMethod = Field("percentile", description="how amax is read from the statistics")
    percentile: float = Field(99.999, gt=50, le=100, description="share of |values| kept, per cent")
    migration: bool = Field(True, description="move outliers of activation channels into the weights")
    samples: int | None = Field(None, ge=1, description="calibration samples; None: the task's default")
    selection_samples: int | None = Field(
        None, ge=1, description="held-out samples that `auto` scores the methods on; None: the task's default"
    )
    batch_size: int = Field(8, ge=1, description="samples per forward pass")


class Placement(_Section):
    """Which quantizers are on, on top of the backend's own choice."""

    residual: Literal["none", "residual", "both"] | None = Field(
        None, description="residual-add inputs; None: the backend's choice"
    )
    enable: tuple[str, ...] = Field((), description="name patterns switched on (shell wildcards)")
    disable: tuple[str, ...] = Field((), description="name patterns switched off, after `enable`")


class Lowering(_Section):
    """How the QDQ graph is written for a runtime."""

    any_cpu: bool | None = Field(
        None,
        description="weights bounded so that no int8 sum can saturate on a processor without VNNI; None: where this "
        "machine needs it",
    )


class Budgets(_Section):
    relative_drop: float = Field(
        0.01, ge=0, le=1, description="largest relative drop of the task metric; 1: the metric is not judged"
    )
    agreement: float | None = Field(
        None, ge=0, le=1, description="smallest share of predictions equal to float's; None: the task's own"
    )
    sqnr_db: float = Field(
        15.0, description="smallest signal-to-quantization-noise ratio of the outputs that predictions are made of, dB"
    )
    speedup: float = Field(1.0, ge=0, description="smallest median speed-up over float ONNX Runtime")

    @property
    def waives_metric(self) -> bool:
        """Whether any drop of the metric is accepted, as of random weights: then nothing is asked of the samples."""
        return self.relative_drop >= 1


class Verification(_Section):
    samples: int | None = Field(None, ge=1, description="held-out samples; None: the task's default")
    warmup: int = Field(3, ge=0, description="untimed runs before the timed ones")
    runs: int = Field(30, ge=5, description="interleaved timed pairs")
    threads: int | None = Field(None, ge=1, description="None: the machine's physical cores")


class QuestionAnswering(_Section):
    """What only extractive question answering reads."""

    no_answer_threshold: float | None = Field(
        None,
        allow_inf_nan=False,
        description="SQuAD v2: a question has no answer where [CLS] scores above its best answer by more; None: every "
        "question has one, and those of the data without one are left out",
    )
    stride: int | None = Field(
        None,
        ge=1,
        description="tokens that two windows of a long context share; None: 32, or a quarter of the sequence length",
    )

    @property
    def takes_none(self) -> bool:
        """Whether a question may have no answer."""
        return self.no_answer_threshold is not None


class TensorRT(_Section):
    """What only the TensorRT backend reads."""

    target: Literal["auto", "8.6", "10"] = Field(
        "auto", description="8.6, or 10 and 11; auto: the installed TensorRT, 10 where there is none"
    )
    precision: Literal["auto", "int8", "fp16", "fp32"] = Field(
        "auto", description="of the engine that ships; auto: the fastest of the three within the budgets"
    )
    workspace_mib: int = Field(4096, ge=1, description="memory that a kernel may use while it runs, MiB at most")
    optimization_level: int = Field(3, ge=0, le=5, description="builder effort, 0 to 5; below 3 fusions are lost")

    @field_validator("target", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        # YAML and TOML read 8.6 and 10 as numbers
        return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else value


class Recipe(_Section):
    """One run: `family` and the folder are the only fields without a default."""

    family: str
    folder: Path = Field(description="artifact folder, exports/<model>")
    checkpoint: str | None = Field(None, description="directory or hub id; None: the embedded checkpoint")
    data: str | None = Field(None, description="folder or file; None: the embedded generator")
    task: str | None = Field(
        None,
        description="what the model is for, where its class is for several: of a BertModel sentence-embedding, "
        "hidden-states or pooled-output; None: the first",
    )
    backend: str = "auto"
    rewrites: bool = Field(True, description="apply the family's exact float rewrites")
    seed: int = 0
    shapes: Shapes = Shapes()  # type: ignore[call-arg]
    calibration: Calibration = Calibration()  # type: ignore[call-arg]
    placement: Placement = Placement()  # type: ignore[call-arg]
    lowering: Lowering = Lowering()  # type: ignore[call-arg]
    budgets: Budgets = Budgets()  # type: ignore[call-arg]
    verification: Verification = Verification()  # type: ignore[call-arg]
    question_answering: QuestionAnswering = QuestionAnswering()  # type: ignore[call-arg]
    tensorrt: TensorRT = TensorRT()  # type: ignore[call-arg]

    @field_validator("backend")
    @classmethod
    def _known(cls, value: str) -> str:
        from pydantic_core import PydanticCustomError

        from pipeline import backends

        known = ["auto", *backends.files()]
        if value not in known:
            raise PydanticCustomError("literal_error", "unknown", {"expected": ", ".join(map(repr, known))})
        return value

    @property
    def model(self) -> str:
        """The name of the artifact folder."""
        return Path(os.path.abspath(self.folder)).name  # noqa: PTH100 -- a link keeps its own name

    @property
    def checkpoint_name(self) -> str:
        """What tables that leave the machine call the checkpoint: of a path its last two folders."""
        if self.checkpoint is None:
            return "embedded"
        parts = Path(self.checkpoint).parts
        return self.checkpoint if len(parts) <= 2 else "/".join(["…", *parts[-2:]])

    def recorded(self) -> dict[str, Any]:
        """Returns what a manifest keeps of the recipe: all but the folder, which may be moved."""
        return self.model_dump(mode="json", exclude={"folder"})

    def on_backend(self, backend: str) -> Recipe:
        """Returns the same recipe for one backend."""
        return self.model_copy(update={"backend": backend})

    def with_image_size(self, size: ImageSize | int | str | None) -> Recipe:
        """Returns the same recipe for images of one size. Raises InputError for one that no recipe may name."""
        return self._with_shape("image_size", size)

    def with_window_stride(self, stride: ImageSize | int | str | tuple[int, int]) -> Recipe:
        """Returns the same recipe for windows of another stride. Raises InputError for one that no recipe may name."""
        return self._with_shape("window_stride", stride)

    def _with_shape(self, name: str, value: Any) -> Recipe:
        setting = value.setting if isinstance(value, ImageSize) else value
        try:
            shapes = Shapes.model_validate({**self.shapes.model_dump(), name: setting})
        except ValidationError as error:
            raise InputError(_explain(error, Shapes)) from error
        return self.model_copy(update={"shapes": shapes})

    @classmethod
    def load(
        cls,
        family: str,
        file: Path | None = None,
        overrides: Mapping[str, Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> Recipe:
        """Returns the recipe for `family`: `defaults` (the family's own), then `file`, then `overrides`.

        Names may be dotted ('calibration.samples': 8); an override of None changes nothing.
        """
        from pipeline import families

        values: dict[str, Any] = {"family": family, "folder": Path("exports") / family}
        for dotted, value in (families.get(family).SETTINGS if defaults is None else defaults).items():
            _merge(values, _nest(dotted, value))
        if file is not None:
            _merge(values, _read(file))
        for dotted, value in (overrides or {}).items():
            if value is not None:
                _merge(values, _nest(dotted, value))
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InputError(_explain(error, cls)) from error


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"recipe {file} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    try:
        if file.suffix == ".toml":
            if sys.version_info >= (3, 11):
                import tomllib
            else:
                import tomli as tomllib

            return tomllib.loads(text)
        value = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"recipe {file} is not valid {file.suffix.lstrip('.').upper()}: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"recipe {file} must be a table of settings, found {type(value).__name__}.")
    return value


def _nest(dotted: str, value: Any) -> dict[str, Any]:
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return value  # type: ignore[no-any-return]


def _merge(into: dict[str, Any], new: dict[str, Any]) -> None:
    for key, value in new.items():
        if not isinstance(value, dict):
            into[key] = value
            continue
        if not isinstance(into.get(key), dict):
            into[key] = {}  # a copy: the caller's tables are not written to
        _merge(into[key], value)


def _fields(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    for part in location:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        model = annotation
    return list(model.model_fields)


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Returns every problem of a recipe in one message, unknown keys with the near names."""
    lines = []
    for fault in error.errors():
        where = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            near = near_names(str(fault["loc"][-1]), _fields(model, fault["loc"][:-1]))
            lines.append(f"unknown setting {where!r}.{near}")
        elif fault["type"] == "contradiction":
            lines.append(f"{fault['msg']}.")
        elif fault["type"] == "literal_error":
            allowed = re.findall(r"'([^']*)'", fault["ctx"]["expected"])
            lines.append(f"{where} = {fault['input']!r} is unknown.{near_names(str(fault['input']), allowed)}")
        else:
            lines.append(f"{where} = {fault['input']!r}: {fault['msg'].removeprefix('Value error, ')}.")
    return "The recipe cannot be used:\n  " + "\n  ".join(lines)
