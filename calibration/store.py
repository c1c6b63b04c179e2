"""calibration.json: every quantizer's amax by method, and the data it was read from.

Stages that import neither torch nor transformers read the table. A caller with an atomic writer takes the text from
`to_json`; the same content gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

from calibration.errors import CalibrationError
from calibration.methods import compute_all, method_key
from calibration.statistics import Statistic

Amax = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


def shortest(value: float) -> float:
    """Returns the shortest decimal that is the same float32: half the JSON, and nothing lost when read again."""
    return float(str(np.float32(value)))


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class QuantizerRecord(_Frozen):
    """One quantizer: amax by method key ("max", "percentile_99.99", "mse", "entropy"), or why it has none."""

    name: str
    kind: str = Field(description="what is quantized: input, weight, matmul, residual, …")
    axis: int | None = Field(default=None, description="channel axis; absent: one amax for the whole tensor")
    num_bits: int = Field(default=8, ge=2, le=16)
    unsigned: bool = False
    amax: dict[str, list[Amax]] = Field(description="by method key, one value per channel")
    samples: int = Field(default=0, ge=0)
    batches: int = Field(default=0, ge=0)
    elements: int = Field(default=0, ge=0)
    degenerate: str | None = Field(default=None, description="why the quantizer has no amax and stays float")

    @field_validator("amax")
    @classmethod
    def _shortest(cls, amax: dict[str, list[float]]) -> dict[str, list[float]]:
        return {method: [shortest(v) for v in values] for method, values in amax.items()}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.degenerate is None) != bool(self.amax):
            raise ValueError(f"{self.name}: exactly one of amax by method and the reason for having none is needed")
        lengths = {method: len(values) for method, values in self.amax.items()}
        if self.axis is None and any(length != 1 for length in lengths.values()):
            raise ValueError(f"{self.name}: per tensor (axis absent) means one amax, found {lengths}")
        if len(set(lengths.values())) > 1 or 0 in lengths.values():
            raise ValueError(f"{self.name}: every method needs the same number of channels, found {lengths}")
        return self

    @classmethod
    def from_statistic(
        cls,
        statistic: Statistic,
        *,
        name: str,
        kind: str,
        samples: int,
        percentiles: tuple[float, ...] = (99.9, 99.99, 99.999),
        num_bits: int = 8,
        unsigned: bool = False,
    ) -> Self:
        """Returns the record of a per-tensor quantizer with every method's amax."""
        reason = statistic.is_degenerate
        amax = {} if reason else compute_all(statistic, percentiles, num_bits=num_bits, unsigned=unsigned)
        return cls(
            name=name,
            kind=kind,
            num_bits=num_bits,
            unsigned=unsigned,
            amax={method: [value] for method, value in amax.items()},
            samples=samples,
            batches=statistic.batches,
            elements=statistic.elements,
            degenerate=reason,
        )

    def amax_for(self, method: str, percentile: float = 99.99) -> list[float] | None:
        """Returns this method's amax, None for a degenerate quantizer. Raises CalibrationError if it is not stored."""
        if self.degenerate is not None:
            return None
        key = method_key(method, percentile)
        if key not in self.amax:
            raise CalibrationError(f"quantizer {self.name!r} has no {key!r}; stored: {', '.join(sorted(self.amax))}")
        return self.amax[key]


class CalibrationTable(_Frozen):
    """calibration.json: every quantizer's record, and the data and versions behind it.

    It depends on checkpoint and data alone: neither the method that a run chooses nor the time it took is in it.
    """

    format: Literal[1] = 1
    data_digest: str
    samples: int = Field(ge=0)
    batches: int = Field(ge=0)
    versions: dict[str, str] = Field(default_factory=dict)
    records: dict[str, QuantizerRecord]

    @model_validator(mode="after")
    def _named_alike(self) -> Self:
        wrong = [name for name, record in self.records.items() if record.name != name]
        if wrong:
            raise ValueError(f"records filed under another name than their own: {', '.join(wrong)}")
        return self

    def to_json(self) -> str:
        """Returns the text of calibration.json, records sorted by name."""
        ordered = self.model_copy(update={"records": dict(sorted(self.records.items()))})
        return ordered.model_dump_json(indent=1, exclude_none=True) + "\n"

    def write(self, path: str | Path) -> None:
        """Writes calibration.json."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Returns the table in a file. Raises CalibrationError naming each field that breaks the schema."""
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except OSError as fault:
            raise CalibrationError(f"{path}: cannot be read ({fault.strerror}); calibrate again") from fault
        except ValidationError as fault:
            faults = [f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in fault.errors()]
            more = f" (and {len(faults) - 5} more)" if len(faults) > 5 else ""
            raise CalibrationError(
                f"{path} is not a calibration table: {'; '.join(faults[:5])}{more}; calibrate again"
            ) from fault
