"""A graph with every quantizer behind a switch, run with some turned; what stays the same is not run again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.graph.switches import SUFFIX, add_switches

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from pipeline.graph.pairs import Pair

    Arrays = dict[str, np.ndarray[Any, Any]]

PARTS = 8  # at whose beginnings the values that the rest needs are kept


class Switchboard:
    """A QDQ graph on fixed inputs: `outputs` with every quantizer as `base` has it, but those that are turned.

    model: a graph whose weights are float behind Q/DQ; it is changed. feeds: [N, …], run as one batch. The graph is cut
    into PARTS; a turned quantizer is felt from its own part on, and the parts before it are not run again.
    """

    def __init__(self, model: ir.Model, feeds: Arrays, *, base: bool, threads: int | None) -> None:
        import onnx
        import onnx_ir as ir

        self.pairs: dict[str, Pair] = {n.removesuffix(SUFFIX): pair for n, pair in add_switches(model).items()}
        self._base, self._threads = base, threads
        self._model: onnx.ModelProto = onnx.shape_inference.infer_shapes(ir.to_proto(model))
        self._feeds = feeds
        self._place: dict[str, int] = {}  # of the first node that a switch turns
        for index, node in enumerate(self._model.graph.node):
            if node.op_type == "Where" and node.input[0].endswith(SUFFIX):
                self._place.setdefault(node.input[0].removesuffix(SUFFIX), index)
        self._sessions: dict[int, Any] = {}

    @cached_property
    def _outputs(self) -> list[str]:
        return [value.name for value in self._model.graph.output]

    @cached_property
    def _cuts(self) -> dict[int, list[str]]:
        """{index of a node: the values from before it that it and later ones read}, where those are fewest."""
        frontiers = frontiers_of(self._model)
        places = sorted(self._place[name] for name in self.pairs)
        cuts = {0: list(self._feeds)}
        for part in range(1, PARTS):
            first, last = places[(part - 1) * len(places) // PARTS], places[part * len(places) // PARTS]
            if first < last:
                best = min(range(last, first, -1), key=lambda index: len(frontiers[index]))
                cuts[best] = frontiers[best]
        return cuts

    @cached_property
    def _kept(self) -> Arrays:
        """The values at every cut, and the outputs, with no quantizer turned."""
        names = dict.fromkeys(name for cut in self._cuts.values() for name in cut if name not in self._feeds)
        found = self._run(0, [*names, *self._outputs], self._feeds, ())
        return {**self._feeds, **found}

    def outputs(self, turned: Iterable[str] = ()) -> Arrays:
        """Returns the graph's outputs with these quantizers turned, by the name that `pairs` has them under."""
        names = list(turned)
        if not names:
            return {name: self._kept[name] for name in self._outputs}
        first = min(self._place[name] for name in names)
        # what a pair reads may lie before its switch, and so may the cut: the switch alone is turned
        cut = max(index for index in self._cuts if index <= first)
        return self._run(cut, self._outputs, {name: self._kept[name] for name in self._cuts[cut]}, names)

    def _run(self, cut: int, outputs: Sequence[str], feeds: Arrays, turned: Iterable[str]) -> Arrays:
        key = cut if outputs == self._outputs else -1
        if key not in self._sessions:
            self._sessions[key] = self._session(list(feeds), list(outputs))
        session = self._sessions[key]
        known = {value.name for value in session.get_inputs() + session.get_overridable_initializers()}
        states = dict.fromkeys(self.pairs, self._base) | dict.fromkeys(turned, not self._base)
        switches = {f"{name}{SUFFIX}": np.asarray(state) for name, state in states.items()}
        given = {name: value for name, value in {**feeds, **switches}.items() if name in known}
        return dict(zip(outputs, session.run(list(outputs), given), strict=True))

    def _session(self, inputs: list[str], outputs: list[str]) -> Any:
        import onnx
        import onnxruntime as ort

        from pipeline.backends._onnxruntime_session import CPU, session_options

        switches = [f"{name}{SUFFIX}" for name in self.pairs]
        part = onnx.utils.Extractor(self._model).extract_model([*inputs, *switches], outputs)
        options = session_options(self._threads)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        return ort.InferenceSession(part.SerializeToString(), options, providers=[CPU])


def frontiers_of(model: onnx.ModelProto) -> list[list[str]]:
    """Returns, for every node, the values from before it that it or a later node reads, weights and switches aside."""
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    born = {value.name: -1 for value in graph.input if value.name not in stored}
    dies: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        born.update((name, index) for name in node.output)
        dies.update((name, index) for name in node.input if name and name not in stored)
    dies.update((value.name, len(graph.node)) for value in graph.output)
    changes: list[tuple[list[str], list[str]]] = [([], []) for _ in range(len(graph.node) + 1)]
    for name, last in dies.items():
        changes[born[name] + 1][0].append(name)
        if last < len(graph.node):
            changes[last + 1][1].append(name)
    alive: dict[str, None] = {}
    found = []
    for begins, ends in changes[:-1]:
        alive.update(dict.fromkeys(begins))
        for name in ends:
            del alive[name]
        found.append(list(alive))
    return found
