"""How good is parity? False alarms over sound engines, and misses over faults of known size, on real engines."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
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
Model = Callable[[Mapping[str, Any]], Mapping[str, Array]]


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
    misses = {kind: {size: Tally() for size in SIZES} for kind in (*OUTPUT_FAULTS, *GRAPH_FAULTS)}
    for name in names:
        graph = workspace.path(f"{name}/model.qdq.onnx")
        engines = {n: backends.load_checked(workspace, name, n) for n in threads}
        with tempfile.TemporaryDirectory(prefix="parity-") as scratch:
            wrong = list(corrupted(graph, Path(scratch), groups))
            for i, group in enumerate(track(samples, f"parity of {name}", groups)):
                expected = Expected.computed(graph, group, None)
                for engine in engines.values():
                    for found in faults_by_way(engine, expected, group):
                        alarms.add(bool(found))
                sound = engines[max(threads)](group.inputs)
                for kind, size, outputs in faulty(sound, wrong[i], group.inputs, seed=i):
                    refused = any(p.reason for p in compare(expected.outputs, outputs, expected.limits))
                    misses[kind][size].add(refused)
    table = results.document(
        command,
        max(threads),
        model=recipe.model,
        checkpoint=recipe.checkpoint_name,
        backends=names,
        samples=PROBES,
        false_alarms=vars(alarms),
        faults=[{"fault": k, "size": s, **vars(t)} for k, sizes in misses.items() for s, t in sizes.items()],
    )
    results.add(table, record, same=("model",))
    return table


def faults_by_way(engine: Any, expected: Expected, group: Reference) -> list[list[str]]:
    """Returns what is wrong with an engine, one list for samples alone and one for them as a batch."""
    return [faults({way: found}) for way, found in check(engine, expected, group, PROBES).items()]


def faulty(
    sound: Mapping[str, Array], wrong: Mapping[tuple[str, float], Model], inputs: Arrays, seed: int
) -> Iterator[tuple[str, float, Arrays]]:
    """Yields (fault, size, outputs) of every fault: of a sound engine's outputs, and of corrupted graphs."""
    rng = np.random.default_rng(seed)
    for kind, change in OUTPUT_FAULTS.items():
        for size in SIZES:
            yield kind, size, {name: change(x, size, rng) for name, x in sound.items()}
    for (kind, size), model in wrong.items():
        yield kind, size, dict(model(inputs))


def corrupted(graph: Path, area: Path, count: int) -> Iterator[dict[tuple[str, float], Model]]:
    """Yields, `count` times, the graph with one scale misread, by fault and size: another place every time.

    What is misread is the scale of a DequantizeLinear: its tensor is too large by the fault's size from there on.
    """
    import onnx

    model = onnx.load(graph)
    stored = {tensor.name for tensor in model.graph.initializer}
    places: dict[str, list[int]] = {kind: [] for kind in GRAPH_FAULTS}
    for i, node in enumerate(model.graph.node):
        if node.op_type == "DequantizeLinear":
            places[GRAPH_FAULTS[node.input[0] in stored]].append(i)
    for n in range(count):
        rng = np.random.default_rng(n)
        at = {kind: int(rng.choice(found)) for kind, found in places.items() if found}
        yield {
            (kind, size): partial(_run_corrupted, graph, area, place, size)
            for kind, place in at.items()
            for size in SIZES
        }


def _run_corrupted(graph: Path, area: Path, place: int, size: float, inputs: Arrays) -> Mapping[str, Array]:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(graph)
    node = model.graph.node[place]
    (scale,) = (t for t in model.graph.initializer if t.name == node.input[1])
    values = numpy_helper.to_array(scale)
    node.input[1] = f"{scale.name}.misread"
    misread = numpy_helper.from_array((values * (1 + size)).astype(values.dtype), node.input[1])
    model.graph.initializer.append(misread)
    onnx.save(model, area / "wrong.onnx")
    return float_session(area / "wrong.onnx")(inputs)
