"""How good is parity? False alarms over sound engines, and misses over faults of known size, on real engines."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import backends
from pipeline.artifacts import Workspace
from pipeline.bench import results
from pipeline.judge.evaluation import PROBES, Reference
from pipeline.judge.parity import compare
from pipeline.judge.reference import float_session
from pipeline.judge.soundness import Expected, check, faults
from pipeline.measure import machine
from pipeline.progress import track
from pipeline.stages.build import build

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

SIZES = (0.01, 0.02, 0.05, 0.1)
Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]


def rms(x: Array) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


# what a fault of a size makes of an engine's output
OUTPUT_FAULTS: dict[str, Callable[[Array, float, np.random.Generator], Array]] = {
    "output too large": lambda x, size, rng: x * (1 + size),
    "offset of the output": lambda x, size, rng: x + size * rms(x),
    "noise on the output": lambda x, size, rng: x + size * rms(x) * rng.standard_normal(x.shape),
    "one channel too large": lambda x, size, rng: (
        x * (1 + size * (np.arange(x.shape[1]) == 0)).reshape([1, -1, *[1] * (x.ndim - 2)])
    ),
}
GRAPH_FAULTS = ("scale of one activation", "scale of one weight")


@dataclass
class Tally:
    """How often something was refused, of how many trials."""

    refused: int = 0
    trials: int = 0

    def add(self, refused: bool) -> None:
        self.refused += refused
        self.trials += 1


def run(
    recipe: Recipe,
    *,
    groups: int,
    command: str,
    announce: Callable[[str], None],
    record: Path | None = None,
) -> dict[str, Any]:
    """Returns the table of one model; its int8 engines are built in `recipe.folder`, one for each CPU backend here.

    groups: of PROBES held-out samples, each checked by itself as the stages check the first one. record: a file that
    the table is added to.
    """
    names = [name for name in backends.usable() if not backends.on_gpu(name)]
    for name in names:
        build(recipe.on_backend(name), announce=announce)
    workspace = Workspace(recipe.folder)
    reference = Reference.read(workspace)
    groups = min(groups, reference.samples // PROBES)
    samples = [reference.take(range(i * PROBES, (i + 1) * PROBES)) for i in range(groups)]
    threads = sorted({1, machine.usable_cores()})
    alarms = Tally()
    misses = {(kind, size): Tally() for kind in (*OUTPUT_FAULTS, *GRAPH_FAULTS) for size in SIZES}
    for name in names:
        engines = [backends.load_checked(workspace, name, n) for n in threads]
        graph = workspace.path(f"{name}/model.qdq.onnx")
        count(graph, engines, track(samples, f"parity of {name}", groups), alarms, misses)
    table = results.document(
        command,
        max(threads),
        model=recipe.model,
        checkpoint=recipe.checkpoint_name,
        backends=names,
        samples=PROBES,
        false_alarms=vars(alarms),
        faults=[{"fault": k, "size": s, **vars(t)} for (k, s), t in misses.items()],
    )
    results.add(table, record, same=("model",))
    return table


def count(
    graph: Path,
    engines: Sequence[backends.Engine],
    groups: Iterable[Reference],
    alarms: Tally,
    misses: Mapping[tuple[str, float], Tally],
) -> None:
    """Adds what parity says of sound engines of a graph, and of the last one's outputs and the graph made faulty."""
    with tempfile.TemporaryDirectory(prefix="parity-") as scratch:
        for seed, group in enumerate(groups):
            expected = Expected.computed(graph, group, None)
            for engine in engines:
                for way, found in check(engine, expected, group, PROBES).items():  # samples alone, then as a batch
                    alarms.add(bool(faults({way: found})))
            faulty = (
                *wrong_outputs(engines[-1](group.inputs), seed),
                *misread_scales(graph, group.inputs, Path(scratch) / "wrong.onnx", seed),
            )
            for kind, size, outputs in faulty:
                misses[kind, size].add(any(p.reason for p in compare(expected.outputs, outputs, expected.limits)))


def wrong_outputs(sound: Mapping[str, Array], seed: int) -> Iterator[tuple[str, float, Arrays]]:
    """Yields (fault, size, outputs) of every fault in a sound engine's outputs."""
    rng = np.random.default_rng(seed)
    for kind, change in OUTPUT_FAULTS.items():
        for size in SIZES:
            yield kind, size, {name: change(x, size, rng) for name, x in sound.items()}


def misread_scales(graph: Path, inputs: Arrays, file: Path, seed: int) -> Iterator[tuple[str, float, Arrays]]:
    """Yields (fault, size, outputs) of the graph with one scale misread: another place with every seed.

    What is misread is the scale of a DequantizeLinear: its tensor is too large by the fault's size from there on. file:
    where the graph is written.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(graph)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    places: dict[str, list[onnx.NodeProto]] = {kind: [] for kind in GRAPH_FAULTS}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            places[GRAPH_FAULTS[node.input[0] in stored]].append(node)
    rng = np.random.default_rng(seed)
    for kind, nodes in places.items():
        if not nodes:
            continue
        node = nodes[int(rng.choice(len(nodes)))]
        right, misread = node.input[1], model.graph.initializer.add()
        values = numpy_helper.to_array(stored[right])
        node.input[1] = f"{right}.misread"
        for size in SIZES:
            misread.CopyFrom(numpy_helper.from_array((values * (1 + size)).astype(values.dtype), node.input[1]))
            onnx.save(model, file)
            yield kind, size, dict(float_session(file)(inputs))
        node.input[1] = right
        del model.graph.initializer[-1]
