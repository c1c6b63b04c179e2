"""The form of report.json. These keys are a promise to its readers; more may stand beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import ArtifactError


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)


class Interval(_Part):
    """The drop's interval, absolute and relative, by the paired bootstrap over the samples."""

    low: float
    high: float
    relative_low: float
    relative_high: float
    level: float
    resamples: int = Field(ge=1)


class Chance(_Part):
    """The best answer that needs no look at the input; low, high: the interval of the float model's lead over it."""

    answer: str
    score: float
    low: float
    high: float
    level: float


class Further(_Part):
    """Another metric of the same outputs, which is not judged."""

    name: str
    float_: float | None = Field(alias="float")
    engine: float | None


class Accuracy(_Part):
    metric: str
    float_: float = Field(alias="float")
    engine: float
    drop: float
    relative_drop: float
    agreement: float = Field(ge=0, le=1, description="share of predictions equal to the float model's")
    sqnr_db: float
    samples: int = Field(ge=1)
    drop_interval: Interval | None = None
    chance: Chance | None = None
    further: list[Further] = []


class Percentiles(_Part):
    """Milliseconds."""

    p50: float = Field(gt=0)
    p90: float = Field(gt=0)
    p99: float = Field(gt=0)
    mean: float = Field(gt=0)


class Speedup(_Part):
    median: float = Field(gt=0)
    low: float = Field(gt=0)
    high: float = Field(gt=0)


class Latency(_Part):
    batch: int = Field(ge=1)
    shape: list[int]
    threads: int = Field(ge=1)
    warmup: int
    runs: int
    float_ort: Percentiles | None = Field(description="None on a machine without ONNX Runtime: see not_compared")
    engine: Percentiles
    speedup: Speedup | None


class Batch(_Part):
    batch: int = Field(ge=1)
    max_abs_diff: float
    cosine: float
    agreement: float = Field(ge=0, le=1)


class Size(_Part):
    """Bytes."""

    float_onnx: int = Field(gt=0)
    qdq_onnx: int = Field(gt=0)
    engine: int = Field(gt=0)


class PrecisionReport(_Part):
    int8_ops: int = Field(ge=0)
    float_ops: int = Field(ge=0)
    int8_flop_share: float = Field(ge=0, le=1)
    layers: list[dict[str, Any]]


class CalibrationSummary(_Part):
    method: str
    batches: int
    samples: int
    seconds: float


class Environment(_Part):
    cpu: str
    gpu: str | None
    threads: int
    os: str
    versions: dict[str, str]
    date: str


class Stage(_Part):
    name: str
    seconds: float
    peak_rss_bytes: int
    skipped: bool


class Report(_Part):
    """The whole document."""

    model: str
    checkpoint: str
    family: str
    task: str
    backend: str
    precision: Literal["int8", "fp16", "fp32"]
    verdict: Literal["pass", "fail"]
    reasons: list[str]
    accuracy: Accuracy
    latency: Latency
    batches: list[Batch] = Field(min_length=1)
    size: Size
    precision_report: PrecisionReport
    calibration: CalibrationSummary
    environment: Environment
    stages: list[Stage]


def validate(report: Mapping[str, Any], where: str = "report.json") -> None:
    """Raises ArtifactError naming every key that is missing or has another form."""
    try:
        Report.model_validate(report)
    except ValidationError as error:
        lines = [f"  {'.'.join(str(x) for x in fault['loc'])}: {fault['msg']}" for fault in error.errors()]
        raise ArtifactError(
            f"{where} is not a report of this format:\n" + "\n".join(lines) + "\nVerify the engine again."
        ) from error
