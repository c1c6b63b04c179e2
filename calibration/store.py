"""calibration.json and the histograms beside it: every quantizer's amax by method, and where it comes from.

The table is read by stages that import neither torch nor transformers. Whoever has an atomic writer takes the
text from `to_json` and the bytes from `histograms_to_bytes`; the same content gives the same bytes.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

from calibration.errors import CalibrationError
from calibration.methods import compute_all, method_key
from calibration.statistics import Statistic

Amax = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


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
        # The shortest decimals that are the same float32: half the JSON, and unchanged when read again.
        return {method: [float(str(np.float32(v))) for v in values] for method, values in amax.items()}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.degenerate is None) != bool(self.amax):
            raise ValueError(f"{self.name}: amax by method, or why it is degenerate; exactly one of the two")
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
        """Returns this method's amax, None for a degenerate quantizer; a method not stored is an error."""
        if self.degenerate is not None:
            return None
        key = method_key(method, percentile)
        if key not in self.amax:
            raise CalibrationError(f"quantizer {self.name!r} has no {key!r}; stored: {', '.join(sorted(self.amax))}")
        return self.amax[key]


class CalibrationTable(_Frozen):
    """calibration.json: every quantizer's record, the chosen method and where the numbers come from."""

    format: Literal[1] = 1
    method: str
    percentile: float = Field(default=99.99, ge=0.0, le=100.0)
    data_digest: str
    samples: int = Field(ge=0)
    batches: int = Field(ge=0)
    seconds: float = Field(ge=0.0, allow_inf_nan=False)
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
        """Returns the table in a file; one that breaks the schema is refused, field by field."""
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except OSError as fault:
            raise CalibrationError(f"{path}: cannot be read ({fault.strerror}); calibrate again") from fault
        except ValidationError as fault:
            faults = [f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in fault.errors()]
            more = f" (and {len(faults) - 5} more)" if len(faults) > 5 else ""
            raise CalibrationError(
                f"{path} is no calibration table: {'; '.join(faults[:5])}{more}; calibrate again"
            ) from fault


def histograms_to_bytes(statistics: Mapping[str, Statistic]) -> bytes:
    """Returns the .npz with the whole state of every statistic; equal statistics give equal bytes."""
    names = sorted(statistics)
    states = [statistics[name].to_arrays() for name in names]
    arrays: dict[str, npt.NDArray[Any]] = {
        "names": np.array(names, dtype=np.str_),
        "bins": np.array([statistics[name].bins for name in names], np.int64),
        "counts": np.concatenate([np.zeros(0, np.int64), *(state["counts"] for state in states)]),
        "amax": np.array([state["amax"] for state in states], np.float32),
        "has_negative": np.array([state["has_negative"] for state in states], np.bool_),
        "batches": np.array([state["batches"] for state in states], np.int64),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def write_histograms(path: str | Path, statistics: Mapping[str, Statistic]) -> None:
    """Writes the histograms of every quantizer."""
    Path(path).write_bytes(histograms_to_bytes(statistics))


def read_histograms(path: str | Path) -> dict[str, Statistic]:
    """Returns the statistics in a file, each of them checked; a damaged file is refused by name."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        names, bins = [str(name) for name in arrays["names"]], arrays["bins"]
        counts = np.split(arrays["counts"], np.cumsum(bins + 1)[:-1]) if names else []
        fields = [arrays[key] for key in ("amax", "has_negative", "batches")]
        return {
            name: Statistic.from_arrays(
                {"counts": part, "amax": amax, "has_negative": negative, "batches": batches}, name=name
            )
            for name, part, amax, negative, batches in zip(names, counts, *fields, strict=True)
        }
    except OSError as fault:
        raise CalibrationError(f"{path}: cannot be read ({fault.strerror or fault}); calibrate again") from fault
    except CalibrationError as fault:
        raise CalibrationError(f"{path}: {fault}") from fault
    except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as fault:
        raise CalibrationError(f"{path} holds no histograms: {fault}; calibrate again") from fault
