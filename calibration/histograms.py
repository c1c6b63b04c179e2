"""calibration.npz: the whole state of every statistic, from which any method's amax can be read without new data.

For each of the kinds "tensor" and "channels" the archive holds `<kind>/names`, `<kind>/place` (the number of each
name's statistic; quantizers that read the same tensor share one) and the arrays `<kind>/<place>/<field>`.
"""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from calibration.channels import ChannelStatistic
from calibration.errors import CalibrationError
from calibration.statistics import Statistic

Arrays = dict[str, npt.NDArray[Any]]
Kind = TypeVar("Kind", Statistic, ChannelStatistic)

# What the readers of zip and npy raise for damaged bytes.
_DAMAGE = (
    KeyError, ValueError, TypeError, IndexError, EOFError, RuntimeError, SyntaxError,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def histograms_to_bytes(
    statistics: Mapping[str, Statistic], channels: Mapping[str, ChannelStatistic] | None = None
) -> bytes:
    """Returns the archive of all statistics by quantizer name; equal statistics give equal bytes."""
    arrays = {**_pack("tensor", statistics), **_pack("channels", channels or {})}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def write_histograms(
    path: str | Path, statistics: Mapping[str, Statistic], channels: Mapping[str, ChannelStatistic] | None = None
) -> None:
    """Writes the archive of all statistics by quantizer name."""
    Path(path).write_bytes(histograms_to_bytes(statistics, channels))


def read_histograms(path: str | Path) -> tuple[dict[str, Statistic], dict[str, ChannelStatistic]]:
    """Returns the statistics in a file, per tensor and per channel, each checked; a damaged file is refused by name."""
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("a single array")
        with archive:
            arrays = {key: archive[key] for key in archive.files}
        return (
            _unpack("tensor", arrays, Statistic.from_arrays),
            _unpack("channels", arrays, ChannelStatistic.from_arrays),
        )
    except OSError as fault:
        raise CalibrationError(f"{path}: cannot be read ({fault.strerror or fault}); calibrate again") from fault
    except CalibrationError as fault:
        raise CalibrationError(f"{path}: {fault}") from fault
    except _DAMAGE as fault:
        raise CalibrationError(f"{path} holds no histograms: {fault}; calibrate again") from fault


def _pack(kind: str, statistics: Mapping[str, Any]) -> Arrays:
    names = sorted(statistics)
    distinct = list({id(statistics[name]): statistics[name] for name in names}.values())
    place = {id(statistic): i for i, statistic in enumerate(distinct)}
    arrays: Arrays = {
        f"{kind}/names": np.array(names, dtype=np.str_),
        f"{kind}/place": np.array([place[id(statistics[name])] for name in names], np.int64),
    }
    for i, statistic in enumerate(distinct):
        arrays.update({f"{kind}/{i}/{field}": value for field, value in statistic.to_arrays().items()})
    return arrays


def _unpack(kind: str, arrays: Arrays, build: Callable[..., Kind]) -> dict[str, Kind]:
    states: dict[int, Arrays] = {}
    for key, value in arrays.items():
        if key.startswith(f"{kind}/") and key.count("/") == 2:
            _, place, field = key.split("/")
            states.setdefault(int(place), {})[field] = value
    pairs = list(zip(arrays[f"{kind}/names"].tolist(), arrays[f"{kind}/place"].tolist(), strict=True))
    first = {place: name for name, place in reversed(pairs)}
    if set(first) != set(states):
        raise ValueError(f"names and {kind} statistics do not belong together")
    built = {place: build(state, name=first[place]) for place, state in states.items()}
    return {name: built[place] for name, place in pairs}
