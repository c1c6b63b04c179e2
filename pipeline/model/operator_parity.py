"""Does every quantized operator of the ONNX graph compute what PyTorch's fake quantization computes?

End to end the two drift: one value on a rounding boundary that falls to the other side changes everything after it. So
the graph is cut at every quantizer. Each operator (its Q/DQ pairs, the layout changes behind them, the product, the
bias) then gets as input exactly what PyTorch's operator got, runs in ONNX Runtime with graph optimizations off, and its
output is compared with PyTorch's. Embedding tables are read whole, every row, and must be equal bit for bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common
import torch
from torch import nn

from calibration.arithmetic import scale_of
from pipeline.graph.pairs import Pair, find_pairs
from pipeline.judge.reference import exact_session
from pipeline.quantization import TensorQuantizer, describe

ROUNDING = 2e-5  # float32 rounding of a product summed in another order, relative to the largest output
BOUNDARY = 2.0**-15  # in steps: twice what float32 resolves at ±128, so x/scale this near to k + ½ may fall either way
OPERATORS = ("MatMul", "Conv", "Gemm", "Add")
SUMMAND = ".sum_"  # in the name of a quantizer of one summand; what it is added to may be float
BEHIND = ("Transpose", "Reshape", "DequantizeLinear")
MOST_HELD = 1 << 30  # bytes of quantized inputs compared at a time; outputs, both sides' copies come on top

Captured = dict[str, tuple[torch.Tensor, torch.Tensor, int | None]]  # quantizer -> input, output, axis


@dataclass(frozen=True)
class OperatorParity:
    """One operator.

    flips: quantized inputs on a rounding boundary that fell to the other side; misplaced: quantized inputs that differ
    otherwise; beyond: outputs that differ by more than float rounding from PyTorch's on the same quantized inputs.
    """

    site: str
    kind: str
    elements: int
    flips: int
    misplaced: int
    beyond: int
    max_abs_diff: float
    largest: float

    @property
    def equal(self) -> bool:
        """Whether the graph's operator is PyTorch's; flips alone are none of its faults."""
        return self.beyond == 0 and self.misplaced == 0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "equal": self.equal}


def compare_operators(
    model: nn.Module, graph: ir.Model, inputs: dict[str, np.ndarray], scratch: Path
) -> list[OperatorParity]:
    """Returns the comparison of every enabled operator on one batch.

    model: the quantized PyTorch model, calibrated, its enabled quantizers those of `graph` (Q → DQ on float weights
    or stored int8 weights). `scratch`: a folder for the cut graph.
    """
    site_of = {record["name"]: record["site"] for record in describe(model)}
    done: set[str] = set()  # sites
    found: list[OperatorParity] = []
    while captured := _capture(model, inputs, site_of, done):
        found += _compare_portion(model, graph, captured, scratch / "operators.onnx", inputs)
        done |= {site_of[name] for name in captured}
    return found


def _compare_portion(
    model: nn.Module, graph: ir.Model, captured: Captured, path: Path, inputs: dict[str, np.ndarray]
) -> list[OperatorParity]:
    """Returns the comparison of the operators whose quantizers were captured. path: where the cut graph may lie."""
    tables = {r["site"]: r["name"] for r in describe(model) if r["kind"] == "embedding" and r["name"] in captured}
    cut, outputs = _cut(graph, {n for n in captured if captured[n][2] is None}, tables)
    ir.save(cut, path)
    session = exact_session(path)
    found = session(
        {n: inputs[n] if n in inputs else _feed(captured[n.removesuffix("/cut")]) for n in session.input_names}
    )
    path.unlink()
    return list(_compare(model, captured, outputs, found))


def _capture(model: nn.Module, inputs: dict[str, np.ndarray], site_of: dict[str, str], done: set[str]) -> Captured:
    """Returns what the quantizers of some sites, none of them `done`, read and gave in one forward pass.

    No site is begun beyond MOST_HELD bytes: a large image has tens of gigabytes of activations, attention over 65536
    positions alone is 270 MB.
    """
    captured: Captured = {}
    begun: set[str] = set()
    held = 0

    def keep(m: TensorQuantizer, args: tuple[torch.Tensor], out: torch.Tensor, name: str) -> None:
        nonlocal held
        site = site_of[name]
        if site in done or (held > MOST_HELD and site not in begun):
            return
        begun.add(site)
        read, given = args[0].detach(), out.detach()
        if m.axis is None:
            captured[name] = read.clone(), given.clone(), None
            held += read.nbytes
        else:  # weights are all of the model's memory, and nothing writes into them
            captured[name] = read, given, m.axis

    hooks = [
        module.register_forward_hook(partial(keep, name=name))
        for name, module in model.named_modules()
        if isinstance(module, TensorQuantizer) and module.is_enabled
    ]
    try:
        with torch.no_grad():
            model(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    finally:
        for hook in hooks:
            hook.remove()
    return captured


def _feed(captured: tuple[torch.Tensor, torch.Tensor, int | None]) -> np.ndarray:
    """Returns what a quantizer read; of a table, the ids of all its rows."""
    read, _, axis = captured
    return read.numpy() if axis is None else np.arange(len(read))


def _cut(graph: ir.Model, activations: set[str], tables: dict[str, str]) -> tuple[ir.Model, dict[str, tuple[str, str]]]:
    """Returns the graph cut at the activation quantizers, and {quantizer: (its DQ's output, its operator's output)}.

    tables: {embedding: its quantizer}; these are cut at their ids, and their Gather's output stands for both.
    """
    cut = graph.clone()
    outputs: dict[str, tuple[str, str]] = {}
    new_inputs, new_outputs = [], {}
    for pair in list(find_pairs(cut)):
        name = next((n for n in pair.names if n in activations), None)
        if name is None:
            continue
        source = ir.Value(name=f"{name}/cut", type=ir.TensorType(ir.DataType.FLOAT))
        pair.quantize.replace_input_with(0, source)
        new_inputs.append(source)
        result = _operator_output(pair)
        for value in (pair.dequantize.outputs[0], result):
            value.shape = None  # the feeds decide
            new_outputs[value.name] = value
        for name in pair.names:
            outputs[name] = (str(pair.dequantize.outputs[0].name), str(result.name))
    for node in cut.graph:
        table = tables.get(str(node.name).removesuffix("/Gather"))
        if node.op_type == "Gather" and table is not None:
            ids, result = ir.Value(name=f"{table}/cut", type=ir.TensorType(ir.DataType.INT64)), node.outputs[0]
            node.replace_input_with(1, ids)
            new_inputs.append(ids)
            new_outputs[result.name] = result
            outputs[table] = (str(result.name), str(result.name))
    cut.graph.outputs.clear()
    cut.graph.outputs.extend(new_outputs.values())
    common.RemoveUnusedNodesPass()(cut)
    own = [value for value in cut.graph.inputs if value.consumers()]  # of an operand that stays float, as zeros do
    cut.graph.inputs.clear()
    cut.graph.inputs.extend([*new_inputs, *own])
    for node in cut.graph:
        for output in node.outputs:
            output.shape = None
    return cut, outputs


def _operator_output(pair: Pair) -> ir.Value:
    value = pair.dequantize.outputs[0]
    if SUMMAND in pair.names[0]:
        return value
    while True:
        (node,) = {id(n): n for n in value.consumers()}.values()
        value = node.outputs[0]
        if node.op_type in OPERATORS:
            break
        assert node.op_type in BEHIND, f"{pair.names[0]} feeds {node.op_type}"
    follower = list(value.consumers())
    if node.op_type in ("MatMul", "Gemm") and len(follower) == 1 and follower[0].op_type == "Add":
        bias = [v for v in follower[0].inputs if v is not None and v.const_value is not None]
        if bias:
            return follower[0].outputs[0]
    return value


def _compare(
    model: nn.Module, captured: Captured, outputs: dict[str, tuple[str, str]], found: dict[str, np.ndarray]
) -> Iterator[OperatorParity]:
    sites: dict[str, list[dict[str, Any]]] = {}
    activations: Counter[str] = Counter()
    for record in describe(model):
        activations[record["site"]] += record["role"] == "activation"
        if record["name"] in captured:
            sites.setdefault(record["site"], []).append(record)
    for site, records in sites.items():
        if records[0]["kind"] == "embedding":
            name = records[0]["name"]
            yield _table_parity(site, captured[name][1].numpy(), found[outputs[name][1]])
            continue
        names = [r["name"] for r in records if r["role"] == "activation"]
        if len(names) < activations[site]:
            continue  # a float operand was not captured
        restored = {name: found[outputs[name][0]] for name in names}
        flips, misplaced = np.sum([_differing(model, n, captured[n], x) for n, x in restored.items()], axis=0)
        expected = _expected(model, site, records, captured, restored).numpy()
        result = found[outputs[names[0]][1]]
        difference, largest = np.abs(result - expected), float(np.abs(expected).max())
        yield OperatorParity(
            site=site,
            kind=records[0]["kind"],
            elements=int(expected.size),
            flips=int(flips),
            misplaced=int(misplaced),
            beyond=int((~(difference <= ROUNDING * largest)).sum()),  # NaN is beyond
            max_abs_diff=float(difference.max()),
            largest=largest,
        )


def _table_parity(site: str, expected: np.ndarray, found: np.ndarray) -> OperatorParity:
    """Returns the comparison of all rows of an embedding: nothing is summed, so no bit may differ."""
    difference = np.abs(found - expected)
    return OperatorParity(
        site=site,
        kind="embedding",
        elements=int(expected.size),
        flips=0,
        misplaced=0,
        beyond=int((found != expected).sum()),  # NaN is beyond
        max_abs_diff=float(difference.max()),
        largest=float(np.abs(expected).max()),
    )


def _differing(
    model: nn.Module, name: str, captured: tuple[torch.Tensor, torch.Tensor, int | None], found: np.ndarray
) -> tuple[int, int]:
    """Returns (flips, misplaced) of one quantizer: its values in the graph, `found`, that differ from PyTorch's."""
    quantizer: Any = model.get_submodule(name)
    step = float(scale_of(quantizer.amax.numpy(force=True), quantizer.bound))
    x, expected = captured[0].numpy().astype(np.float64), captured[1].numpy()
    differing = ~(found == expected)
    on_boundary = np.abs(np.abs(x / step % 1) - 0.5) <= BOUNDARY
    flip = differing & on_boundary & (np.abs(found - expected) <= 1.5 * step)
    return int(flip.sum()), int((differing & ~flip).sum())


def _expected(
    model: nn.Module,
    site: str,
    records: list[dict[str, Any]],
    captured: Captured,
    restored: dict[str, np.ndarray],
) -> torch.Tensor:
    """Returns PyTorch's result of one operator on the graph's quantized activations and its own quantized weight."""
    with torch.no_grad():
        kind = records[0]["kind"]
        values = [
            torch.from_numpy(restored[r["name"]]) if r["name"] in restored else captured[r["name"]][1] for r in records
        ]
        if kind in ("linear", "conv", "pointwise", "depthwise"):
            module: Any = model.get_submodule(site)
            x = values[0]
            weight = values[1] if len(values) > 1 else module.weight
            if kind == "linear":
                return torch.nn.functional.linear(x, weight, module.bias)
            return module._conv_forward(x, weight, module.bias)  # type: ignore[no-any-return]
        if kind == "scores":
            return torch.matmul(values[0], values[1].transpose(2, 3))
        if kind == "context":
            return torch.matmul(values[0], values[1])
        return values[0] if kind == "sum" else values[0] + values[1]
