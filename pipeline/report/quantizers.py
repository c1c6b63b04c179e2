"""One row per quantizer for the page: placement, amax by method, scale and a small histogram."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from calibration.errors import CalibrationError
from calibration.histograms import read_histograms
from calibration.methods import method_key
from calibration.store import CalibrationTable, QuantizerRecord
from pipeline.errors import ArtifactError
from pipeline.report import formats

if TYPE_CHECKING:
    from calibration.statistics import Statistic
    from pipeline.artifacts import Workspace

BARS = 60  # of a small histogram
WIDE, HIGH = 150, 30  # its pixels


class Reading(NamedTuple):
    """An amax or a scale as the page prints it: one number, or the extremes over the channels."""

    low: str
    high: str | None = None
    used: bool = False


@dataclass(frozen=True)
class Row:
    """What the page says about one quantizer."""

    name: str
    short: Markup  # the name without its block, breakable after each dot and underscore
    kind: str
    enabled: bool | None  # None: not known
    reason: str
    amax: dict[str, Reading]  # by method key
    scale: Reading | None
    channels: int
    picture: Markup | None


@dataclass
class Group:
    """The quantizers of one block of the model."""

    name: str
    rows: list[Row] = field(default_factory=list)

    @property
    def on(self) -> int:
        return sum(row.enabled is True for row in self.rows)


def groups(workspace: Workspace, backend: str) -> tuple[list[Group], list[str]]:
    """Returns every quantizer by block of the model, and a note for each artifact that could not be read."""
    notes: list[str] = []
    placed, chosen = _placement(workspace, f"{backend}/placement.json", notes)
    table = _table(workspace, notes)
    records = table.records if table else {}
    statistics = _statistics(workspace, notes) if table else {}
    blocks: dict[str, Group] = {}
    for name in dict.fromkeys([*placed, *records]):
        block, short = split(name)
        row = _row(name, short, placed.get(name, {}), records.get(name), statistics.get(name), chosen)
        blocks.setdefault(block, Group(block)).rows.append(row)
    return list(blocks.values()), notes


def split(name: str) -> tuple[str, str]:
    """Returns a quantizer's block and its name inside: the block ends with the first run of numbers.

    'bert.encoder.layer.3.output.dense.weight' -> ('bert.encoder.layer.3', 'output.dense.weight')
    """
    numbered = re.match(r"(.*?(?:\.\d+)+)\.(.+)$", name)
    if numbered:
        return numbered[1], numbered[2]
    parts = name.split(".")
    cut = min(2, len(parts) - 1)
    return ".".join(parts[:cut]) or "model", ".".join(parts[cut:])


def _row(
    name: str,
    short: str,
    placed: Mapping[str, Any],
    record: QuantizerRecord | None,
    statistic: Statistic | None,
    chosen: str | None,
) -> Row:
    amax = record.amax if record else {}
    enabled = placed.get("enabled")
    migration = placed.get("migration")  # its scale belongs to the divided tensor, which no amax here describes
    used = None if enabled is False or migration else _used(amax, placed.get("amax"), chosen)
    return Row(
        name=name,
        short=Markup(re.sub(r"(\.|(?<=[a-z0-9])_)", r"\1<wbr>", str(escape(short)))),  # noqa: S704 escaped
        kind=str(placed.get("kind") or (record.kind if record else formats.ABSENT)),
        enabled=enabled if isinstance(enabled, bool) else None,
        reason="; ".join(filter(None, (placed.get("reason") or (record.degenerate if record else None), migration))),
        amax={key: reading(values, key == used) for key, values in amax.items()},
        scale=reading(placed["scale"]) if placed.get("scale") is not None else None,
        channels=max((len(values) for values in amax.values()), default=0) if record and record.axis is not None else 0,
        picture=sparkline(statistic, amax, used) if statistic and statistic.amax else None,  # none of zeros
    )


def _used(amax: Mapping[str, list[float]], given: Any, chosen: str | None) -> str | None:
    """Returns the key of the method that gave a quantizer its amax."""
    values = given if isinstance(given, list) else [given]
    keys = sorted(amax, key=lambda key: key != chosen)  # equal readings: the chosen method first
    return next((key for key in keys if amax[key] == values), chosen)


def method_label(key: str) -> str:
    """Returns 'percentile_99.99' as '99.99 %'."""
    return key.removeprefix("percentile_") + "\N{NARROW NO-BREAK SPACE}%" if key.startswith("percentile_") else key


def method_colour(key: str) -> str:
    """Returns the name of the method's colour in the style sheet."""
    return re.sub("[^a-z]", "", key)


def reading(value: Any, used: bool = False) -> Reading:
    """Returns one number, or the smallest and the largest of a list."""
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    numbers = [x for item in values if (x := formats.number(item)) is not None]
    if not numbers:
        return Reading(formats.ABSENT, None, used)
    low, high = formats.significant(min(numbers)), formats.significant(max(numbers))
    return Reading(low, high if len(numbers) > 1 else None, used)


def methods(groups: Sequence[Group]) -> list[tuple[str, str, str]]:
    """Returns (key, label, colour) of every method by which some quantizer has an amax."""
    keys = dict.fromkeys(key for group in groups for row in group.rows for key in row.amax)
    return [(key, method_label(key), method_colour(key)) for key in keys]


def sparkline(statistic: Statistic, amax: Mapping[str, list[float]], used: str | None) -> Markup:
    """Returns the histogram of |x| from 0 to its largest: logarithmic counts, a mark at every amax."""
    histogram = statistic.histogram()
    counts = _rebin(histogram, BARS) * max(1.0, histogram.size / BARS)
    heights = np.log1p(counts) / max(float(np.log1p(counts).max(initial=0)), 1e-12) * (HIGH - 4)
    step = WIDE / len(counts)
    bars = "".join(f"V{HIGH - height:.1f}h{step:.4g}" for height in heights)
    marks = []
    for key, values in sorted(amax.items(), key=lambda item: item[0] == used):  # the one in use on top
        if len(values) == 1 and statistic.amax > 0:
            x = min(values[0] / statistic.amax, 1.0) * WIDE
            names = f"mark m-{method_colour(key)}{' used' if key == used else ''}"
            marks.append(f'<path class="{names}" d="M{x:.1f} 0V{HIGH}"/>')
    return Markup(  # noqa: S704 only numbers and lower-case letters
        f'<svg class="spark" viewBox="-1 0 {WIDE + 2} {HIGH}" aria-hidden="true">'
        f'<path class="bars" d="M0 {HIGH}{bars}V{HIGH}z"/>{"".join(marks)}</svg>'
    )


def _rebin(counts: NDArray[np.float64], bars: int) -> NDArray[np.float64]:
    """Returns at most `bars` means of neighbouring counts; sums would jump where groups differ by a bin."""
    if counts.size <= bars:
        return counts
    starts = np.linspace(0, counts.size, bars, endpoint=False).astype(int)
    return np.add.reduceat(counts, starts) / np.diff([*starts, counts.size])


def _placement(workspace: Workspace, name: str, notes: list[str]) -> tuple[dict[str, Mapping[str, Any]], str | None]:
    """Returns placement.json's entry for every quantizer, and the key of the method that gave its scales."""
    try:
        document = json.loads(workspace.path(name).read_text(encoding="utf-8"))
        placed = {str(entry["name"]): entry for entry in document["quantizers"]}
        for entry in document["migrations"]:
            migration = (
                f"outliers moved into the weights (by {entry['into']}, strength {entry['strength']:g}, "
                f"{entry['gain_db']:.1f} dB less noise)"
            )
            for quantizer in entry["quantizers"]:
                placed[quantizer] = {**placed[quantizer], "migration": migration}
        choice = document["calibration"]
        return placed, method_key(choice["method"], choice["percentile"])
    except (ArtifactError, OSError, ValueError, KeyError, TypeError) as fault:
        notes.append(f"Which quantizers are on is not known: {_said(fault)}")
        return {}, None


def _table(workspace: Workspace, notes: list[str]) -> CalibrationTable | None:
    try:
        return CalibrationTable.read(workspace.path("calibration.json"))
    except (ArtifactError, CalibrationError) as fault:
        notes.append(f"The amax of the quantizers are not known: {_said(fault)}")
        return None


def _statistics(workspace: Workspace, notes: list[str]) -> dict[str, Statistic]:
    try:
        return read_histograms(workspace.path("calibration.npz"))[0]
    except (ArtifactError, CalibrationError) as fault:
        notes.append(f"There are no histograms: {_said(fault)}")
        return {}


def _said(fault: Exception) -> str:
    return (
        str(fault)
        if isinstance(fault, ArtifactError | CalibrationError)
        else f"placement.json is not valid ({fault!r})"
    )
