"""From the exporter's graph to one that a person can read in Netron."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

import onnx_ir as ir
import onnx_ir.passes.common as common

from pipeline.graph.pairs import QUANTIZER
from pipeline.graph.passes import graph_pass

SCOPES = "pkg.torch.onnx.name_scopes"
# Of onnxscript's rules: three are for operators that float models lack, and SlicesSplit, which reads the whole graph
# again at every node, took half of the total time.
LEFT_OUT = {"SlicesSplit", "NormalizePadFormatConvInteger", "FuseConvIntegerPad", "RemoveOptionalBiasFromQLinearConv"}


def _traces(model: ir.Model) -> Iterator[str]:
    for node in model.graph:
        if not {QUANTIZER} >= node.metadata_props.keys():
            yield f"{node.name} carries {', '.join(node.metadata_props)}"


@graph_pass(ensures=_traces, tolerance=1e-5)
def tidy(model: ir.Model) -> bool:
    """Folds constants, shares equal subexpressions and names every node by its module.

        node_7: x → Shape → Gather → Unsqueeze → Concat → Reshape(x) → y     ->     encoder/Reshape: x → Reshape → y

    A graph without the exporter's notes is tidy already, and would lose the names that came from them.
    onnxscript's own optimizer also merges initializers of equal value: a bias of zeros then has the name of some other
    layer, and two quantizers with the same scale become one. So its passes are called here without that one.
    """
    from onnxscript import optimizer, rewriter

    if not any(_traces(model)):
        return False
    rules = [rule for rule in rewriter._DEFAULT_REWRITE_RULES if rule.name not in LEFT_OUT]
    common.InlinePass()(model)
    for _ in range(2):
        optimizer.fold_constants(
            model,
            onnx_shape_inference=True,
            input_size_limit=1 << 40,  # weights are transposed here, once, whatever their size
            output_size_limit=1 << 40,
            should_fold=lambda node: False if node.op_type in ("QuantizeLinear", "DequantizeLinear") else None,
        )
        rewriter.rewrite(model, rules)
        common.RemoveUnusedNodesPass()(model)
    ir.passes.Sequential(
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.OutputFixPass(),
    )(model)
    name_by_module(model)
    common.NameFixPass()(model)
    return True


def name_by_module(model: ir.Model) -> None:
    """Names nodes and their outputs '<module path>/<operator>', and constants after the node that reads them.

    The exporter's notes on each node are removed: stack traces with file names of the exporting machine.
    """
    seen: Counter[str] = Counter()
    fixed = {id(v) for v in (*model.graph.inputs, *model.graph.outputs)}
    for node in model.graph:
        quantizer = node.metadata_props.get(QUANTIZER)
        scope = quantizer or _module_path(node)
        name = f"{scope}/{node.op_type}" if scope else node.op_type
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name] - 1}"
        for i, output in enumerate(node.outputs):
            if id(output) not in fixed:
                output.name = node.name + (f":{i}" if i else "")
            output.metadata_props.clear()
        for value in node.inputs:
            if value is not None and value.const_value is not None and value.name and value.name.startswith("val_"):
                _rename_constant(model, value, f"{node.name}.constant")
        node.metadata_props.clear()
        if quantizer:
            node.metadata_props[QUANTIZER] = quantizer
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.doc_string = None


def _module_path(node: ir.Node) -> str:
    try:
        scopes = ast.literal_eval(node.metadata_props.get(SCOPES, "[]"))
    except (ValueError, SyntaxError):
        return ""
    # the last entry is the traced operation, the ones before it the modules from the outside in
    modules = [s for s in scopes[:-1] if s and not s.startswith("_empty")]
    return modules[-1] if modules else ""


def _rename_constant(model: ir.Model, value: ir.Value, name: str) -> None:
    initializers = model.graph.initializers
    if value.name is None or value.name not in initializers:
        return
    free, number = name, 0
    while free in initializers:
        number += 1
        free = f"{name}_{number}"
    del initializers[value.name]
    value.name = free
    initializers[free] = value
