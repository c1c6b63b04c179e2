"""Is an engine sound? What it must give, one by one and in a batch, and a wrapper whose outputs are always whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ArtifactError
from pipeline.judge.evaluation import EXACT, PROBES, Reference, first, one_by_one, read_arrays
from pipeline.judge.parity import Limit, Parity, compare

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.artifacts import Workspace
    from pipeline.backends import Engine
    from pipeline.judge.evaluation import Arrays

NEIGHBOURS = 2  # dithered runs of a graph


@dataclass(frozen=True)
class Expected:
    """What an engine should give for the first PROBES held-out samples, [PROBES, …], and how far off it may be."""

    outputs: Arrays
    limits: Mapping[str, Limit]

    @classmethod
    def read(cls, workspace: Workspace, backend: str, precision: str, reference: Reference) -> Expected:
        """Returns the outputs of a backend's QDQ graph as the lower stage stored them, or for float, the float model's.

        Raises ArtifactError for a file of another form.
        """
        if precision != "int8":
            outputs = reference.first(PROBES).outputs
            return cls(outputs, {name: Limit.of_float(precision) for name in outputs})
        return cls.stored(workspace.path(f"{backend}/{EXACT}"), workspace)

    @classmethod
    def stored(cls, path: Path, workspace: Workspace) -> Expected:
        """Returns what `write` wrote. Raises ArtifactError, with how to make the folder again, for another file."""
        parts: dict[str, Arrays] = {"output": {}, "limit": {}}
        for key, value in read_arrays(path).items():
            kind, _, name = key.partition("/")
            parts.setdefault(kind, {})[name] = value
        if set(parts) != {"output", "limit"} or set(parts["output"]) != set(parts["limit"]) or not parts["output"]:
            raise ArtifactError(f"{path} is not of this format; {workspace.again()}.")
        return cls(parts["output"], {name: Limit.from_array(x) for name, x in parts["limit"].items()})

    @classmethod
    def computed(cls, graph: Path, reference: Reference, threads: int | None) -> Expected:
        """Returns what a QDQ graph computes in ONNX Runtime, node by node, with limits from its neighbours."""
        from pipeline.judge.reference import dithered_outputs, exact_outputs

        samples = reference.first(PROBES)
        outputs, floats = exact_outputs(graph, reference, threads), samples.outputs
        neighbours = dithered_outputs(graph, samples.inputs, threads, NEIGHBOURS)
        return cls(
            outputs,
            {n: Limit.of_neighbours(x, [other[n] for other in neighbours], floats[n]) for n, x in outputs.items()},
        )

    def write(self, path: Path) -> None:
        """Writes the file that `stored` reads."""
        import numpy as np

        arrays: Arrays = {f"output/{name}": x for name, x in self.outputs.items()}
        arrays |= {f"limit/{name}": limit.to_array() for name, limit in self.limits.items()}
        np.savez(path, allow_pickle=False, **arrays)


def check(engine: Engine, expected: Expected, reference: Reference, largest_batch: int) -> dict[str, list[Parity]]:
    """Returns an engine's parity by the way it ran: {"one by one": …, "as one batch": …}.

    largest_batch: the recipe's; an engine may take no larger one.
    """
    samples = reference.first(PROBES)
    count = min(PROBES, largest_batch)
    together = engine(samples.first(count).inputs)
    return {
        "one by one": compare(expected.outputs, one_by_one(engine, samples.inputs), expected.limits),
        "as one batch": compare(first(expected.outputs, count), together, expected.limits),
    }


def faults(results: Mapping[str, list[Parity]]) -> list[str]:
    """Returns one sentence per wrong output, which names the way the engine ran."""
    return [f"{p.output}, {way}: {p.reason}" for way, parities in results.items() for p in parities if p.reason]


def rows(results: Mapping[str, list[Parity]]) -> list[dict[str, Any]]:
    """Returns the rows of engine.json and report.json."""
    return [{"way": way, **p.to_json()} for way, parities in results.items() for p in parities]


class Whole:
    """An engine whose outputs are all there, finite and of the right shape: zero where not, which `faults` says.

    So a faulty engine is judged like any other, and its report says what is wrong with it.
    """

    def __init__(self, engine: Engine, outputs: Arrays) -> None:
        self._engine = engine
        self._outputs = outputs
        self.faults: list[str] = []

    def __call__(self, feeds: Arrays) -> Arrays:
        outputs = self._engine(feeds)
        count = len(next(iter(feeds.values())))
        return {name: self._whole(name, outputs.get(name), (count, *x.shape[1:])) for name, x in self._outputs.items()}

    def _whole(self, name: str, output: NDArray[np.generic] | None, shape: tuple[int, ...]) -> NDArray[Any]:
        import numpy as np

        if output is None:
            self._add(f"the engine does not give {name}")
        elif output.shape != shape:
            self._add(f"the engine gives {name} in the shape {output.shape}, not {shape}")
        elif not np.isfinite(output).all():
            self._add(f"the engine gives {name} with values that are not finite")
            return np.asarray(np.nan_to_num(output, nan=0.0, posinf=0.0, neginf=0.0))
        else:
            return output
        return np.zeros(shape, self._outputs[name].dtype)

    def _add(self, fault: str) -> None:
        if fault not in self.faults:
            self.faults.append(fault)
