"""From the candidate graph to one backend's QDQ graph: placement, migration, scales, dialect. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import InputError
from pipeline.lowering import placement

if TYPE_CHECKING:
    import onnx_ir as ir

    from calibration import CalibrationTable, ChannelStatistic, Statistic
    from pipeline.backends._policy import Policy
    from pipeline.graph.migrate import Moved
    from pipeline.run import Run


SEQUENCE = "sequence"  # what families call the dynamic axis of tokens


@dataclass(frozen=True)
class Choice:
    """How amax is read from the statistics. percentile: in per cent, ignored by the other methods."""

    method: str
    percentile: float
    migration: bool

    @property
    def label(self) -> str:
        """Its name in tables, such as "percentile_99.99 + migration"."""
        from calibration import method_key

        return method_key(self.method, self.percentile) + (" + migration" if self.migration else "")


@dataclass(frozen=True)
class Lowered:
    """A QDQ graph with the decisions behind it."""

    graph: ir.Model
    decisions: Sequence[placement.Decision]
    amax: Mapping[str, list[float]]  # of the quantizers that are on: one value, or one per channel
    scales: Mapping[str, np.ndarray]  # of the same: amax / 127, or what the dialect turned that into
    moved: Sequence[Moved]

    def to_json(self) -> dict[str, Any]:
        """Returns placement.json's content: for every quantizer, on or off and why; every migration."""
        rows = [{**vars(d), "amax": self._amax(d), "scale": self._scale(d)} for d in self.decisions]
        moved = [
            {
                "quantizers": list(m.quantizers),
                "into": m.into,
                "strength": m.strength,
                "gain_db": round(m.gain_db, 2),
                "largest_factor": float(m.factors.max()),
                "smallest_factor": float(m.factors.min()),
            }
            for m in self.moved
        ]
        return {"quantizers": rows, "migrations": moved}

    def _amax(self, decision: placement.Decision) -> float | list[float] | None:
        from calibration.store import shortest

        values = [shortest(value) for value in self.amax.get(decision.name, ())]
        return values[0] if len(values) == 1 else values or None

    def _scale(self, decision: placement.Decision) -> Any:
        return self.scales[decision.name].tolist() if decision.enabled else None


class Candidates:
    """The artifacts that lowering starts from, read once for any number of choices."""

    def __init__(self, run: Run) -> None:
        from calibration import CalibrationTable

        self._workspace = workspace = run.workspace
        self._recipe = recipe = run.recipe
        self.backend = run.backend
        self.table: CalibrationTable = CalibrationTable.read(workspace.path("calibration.json"))
        self.quantizers: list[dict[str, Any]] = run.about["quantizers"]
        self.decisions = self.place(placement.default(self.backend.NAME, recipe.family).policy)
        self.enabled = enabled(self.decisions)

    def place(self, policy: Policy) -> list[placement.Decision]:
        """Returns one decision per quantizer, `policy` being the default. Raises InputError if none is on."""
        degenerate = {n: r.degenerate for n, r in self.table.records.items() if r.degenerate}
        decisions = placement.decide(self.quantizers, policy, self._recipe.placement, degenerate)
        if not enabled(decisions):
            raise InputError("the placement leaves no quantizer on: nothing would run in int8.")
        return decisions

    @cached_property
    def histograms(self) -> tuple[dict[str, Statistic], dict[str, ChannelStatistic]]:
        """What calibration collected, per tensor and per channel."""
        from calibration.histograms import read_histograms

        return read_histograms(self._workspace.path("calibration.npz"))

    def lower(self, choice: Choice, policy: Policy | None = None, dialect: Sequence[str] | None = None) -> Lowered:
        """Returns the backend's QDQ graph for one way to read amax.

        policy: a default placement to try instead of the stored one; dialect: graph passes to try instead of the
        backend's.
        """
        import onnx_ir as ir

        from calibration.arithmetic import scale_of
        from pipeline.graph import BOUNDS, apply, dropped, keep_pairs, scales_of, set_scales
        from pipeline.graph.fold import fold_transposed_weights
        from pipeline.graph.migrate import migrate_outliers, migrations
        from pipeline.graph.saturation_free import keep_activation_products_float

        decisions = self.place(policy) if policy else self.decisions
        passes = self.backend.dialect(self._recipe) if dialect is None else dialect
        graph = ir.load(self._workspace.path("candidates.onnx"))
        keep_pairs(graph, enabled(decisions))
        if "saturation_free" in passes:  # before outliers are moved for the sake of products that stay float
            keep_activation_products_float(graph)
            decisions = placement.without(decisions, dropped(graph))
        if choice.migration:
            migrate_outliers(graph, self.histograms[1])
        fold_transposed_weights(graph)
        moved = migrations(graph)
        amax = self._amax(graph, choice, moved, enabled(decisions))
        scales = {name: scale_of(values) for name, values in amax.items()}
        set_scales(graph, scales)
        graph.meta[BOUNDS] = {SEQUENCE: self._recipe.shapes.sequence_length}
        apply(graph, passes)
        decisions = placement.without(decisions, dropped(graph))
        left, names = {**scales, **scales_of(graph)}, sorted(enabled(decisions))
        return Lowered(graph, decisions, {n: amax[n] for n in names}, {n: left[n] for n in names}, moved)

    def _amax(self, graph: ir.Model, choice: Choice, moved: Sequence[Moved], names: set[str]) -> dict[str, list[float]]:
        """Returns {quantizer: amax}: from the table, from the rescaled statistic of a tensor that was divided, from the
        graph for weights that were multiplied. Weights always take their maximum.
        """
        from calibration import compute_amax, rescale, weight_amax
        from pipeline.graph import find_pairs
        from pipeline.graph.build import constant

        amax: dict[str, Any] = {}
        for name in names:
            record = self.table.records[name]
            method = choice.method if record.axis is None else "max"
            amax[name] = record.amax_for(method, choice.percentile)
        for migration in moved:
            for name in migration.quantizers:
                divided = rescale(self.histograms[0][name], self.histograms[1][name], migration.factors)
                amax[name] = [compute_amax(divided, choice.method, percentile=choice.percentile)]
        for pair in find_pairs(graph) if moved else ():
            if pair.stored:
                amax[pair.name] = weight_amax(constant(pair.source), pair.axis, name=pair.name).tolist()
        return amax


def enabled(decisions: Sequence[placement.Decision]) -> set[str]:
    """Returns the names of the quantizers that are on."""
    return {d.name for d in decisions if d.enabled}
