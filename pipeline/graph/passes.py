"""The contract of a graph edit, after onnx-ir's PassResult, requires and ensures.

    model, modified = merge_equal_pairs(model)

A pass works in place and says whether it changed anything; if not, the file would have the same bytes. It is drawn
`before -> after` in its docstring, and checks what it promises. A second run finds nothing to do. Written as

    @rewrite(_equal_pairs)                               what is done to each match, until nothing matches
    def merge_equal_pairs(model, kept, other): ...

    @graph_pass(ensures=_faults)                         or as a whole, with its own condition
    def half_precision(model) -> bool: ...
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec

import onnx_ir as ir
import onnx_ir.passes.common as common

P = ParamSpec("P")
Edit = Callable[Concatenate[ir.Model, P], bool]
Condition = Callable[Concatenate[ir.Model, P], Iterable[str]]

MOST_SWEEPS = 100  # more than the number of operators that anything moves past


class Result(NamedTuple):
    """What a pass returns. It has no truth value: `modified` has."""

    model: ir.Model
    modified: bool

    def __bool__(self) -> bool:
        raise TypeError("a pass returns (model, modified): ask for .modified")


@dataclass(frozen=True)
class GraphPass(Generic[P]):
    """An edit with its post-condition.

    ensures: yields one sentence per fault that the edit left, whether it changed the graph or not. requantizes: whether
    it changes what is rounded, or how; tests then compare outputs without Q/DQ. tolerance: by how much outputs may
    differ, as a share of the largest; 0: bit for bit.
    """

    name: str
    edit: Edit[P]
    ensures: Condition[P]
    requantizes: bool
    tolerance: float

    def __call__(self, model: ir.Model, *args: P.args, **kwargs: P.kwargs) -> Result:
        """Returns the edited model, without what nothing reads any more. Raises PostconditionError for any fault."""
        interface = _interface(model)
        modified = self.edit(model, *args, **kwargs)
        if modified:
            common.RemoveUnusedNodesPass()(model)
        faults = [*_faults(model), *self.ensures(model, *args, **kwargs)]
        if _interface(model) != interface:
            faults.insert(0, f"inputs and outputs were {interface}, now they are {_interface(model)}")
        if faults:
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            raise ir.passes.PostconditionError(f"{self.name}: {faults[0]}{more}")
        return Result(model, modified)


def graph_pass(
    *, ensures: Condition[P], requantizes: bool = False, tolerance: float = 0.0
) -> Callable[[Edit[P]], GraphPass[P]]:
    """Returns the decorator that turns an edit of the whole graph into a pass."""
    return lambda edit: GraphPass(edit.__name__, edit, ensures, requantizes, tolerance)


def rewrite(
    matches: Callable[[ir.Model], Iterable[tuple[Any, ...]]], *, tolerance: float = 0.0
) -> Callable[[Callable[..., None]], GraphPass[[]]]:
    """Returns the decorator that turns an edit of one match into a pass.

    matches: yields the places, (node or pair, …), while they are rewritten, until none is left.
    """

    def left(model: ir.Model) -> Iterator[str]:
        return (f"there is more to do at {place.name}" for place, *_ in matches(model))

    def of_one(edit: Callable[..., None]) -> GraphPass[[]]:
        def every(model: ir.Model) -> bool:
            for sweep in range(MOST_SWEEPS):
                matched = False
                for match in matches(model):
                    edit(model, *match)
                    matched = True
                if not matched:
                    return sweep > 0
                common.RemoveUnusedNodesPass()(model)  # what nothing reads any more would match again
            return True

        return graph_pass(ensures=left, tolerance=tolerance)(update_wrapper(every, edit))

    return of_one


def _interface(model: ir.Model) -> list[list[str]]:
    return [
        [f"{value.name}: {value.dtype}" for value in values] for values in (model.graph.inputs, model.graph.outputs)
    ]


def _faults(model: ir.Model) -> Iterator[str]:
    """Yields what no graph may have: a value that is read before it is computed, a name given twice."""
    graph = model.graph
    known = {*graph.inputs, *graph.initializers.values()}
    for node in graph:
        early = (value for value in node.inputs if value is not None and value not in known)
        yield from (f"{node.name} reads {value.name}, which nothing before it computes" for value in early)
        known.update(node.outputs)
    yield from (f"nothing computes the output {value.name}" for value in graph.outputs if value not in known)
    for kind, names in (("values", (v.name for v in known)), ("operators", (n.name for n in graph))):
        yield from (f"{count} {kind} are named {name}" for name, count in Counter(names).items() if name and count > 1)
