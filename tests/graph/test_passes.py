"""The contract of a graph pass, held by every one in the folder, and shown to be broken by broken ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from helpers.onnx_text import run
from helpers.pass_samples import SAMPLES, Sample, feeds
from pipeline import backends
from pipeline.artifacts import Workspace
from pipeline.graph import BY_NAME, keep_pairs
from pipeline.graph.passes import GraphPass, rewrite
from pipeline.lowering import Candidates, Choice
from pipeline.recipe import Recipe
from pipeline.run import Run

PASSES = sorted(BY_NAME)
STATES = {"migrate_outliers"}  # its condition is on what it did, and holds where it did nothing
Broken = ir.passes.PostconditionError


def data(model: ir.Model) -> bytes:
    return ir.to_proto(model).SerializeToString(deterministic=True)


def outputs(model: ir.Model, *, in_float: bool) -> list[np.ndarray]:
    if in_float:
        model = keep_pairs(model.clone(), set()).model
    return run(model, **feeds(model))


def check(graph_pass: GraphPass[Any], sample: Sample) -> None:
    """Asserts that a pass changes its sample, keeps the outputs as it says, and finds nothing to do after that."""
    model = sample.build()
    before = outputs(model, in_float=graph_pass.requantizes)
    result, modified = graph_pass(model, *sample.arguments)
    assert result is model and modified
    for old, new in zip(before, outputs(model, in_float=graph_pass.requantizes), strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=graph_pass.tolerance * np.abs(old).max())
    once = data(model)
    assert not graph_pass(model, *sample.arguments).modified and data(model) == once


def test_every_pass_has_a_sample() -> None:
    assert sorted(SAMPLES) == PASSES


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_keeps_the_contract(name: str) -> None:
    check(BY_NAME[name], SAMPLES[name])


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_is_drawn(name: str) -> None:
    assert "->" in str(BY_NAME[name].edit.__doc__)


@pytest.mark.parametrize("name", PASSES)
def test_where_there_is_nothing_to_do_a_pass_changes_nothing(name: str) -> None:
    model = Sample("agraph (float[N, 4] x) => (float[N, 4] y) { h = Neg(x) y = Exp(h) }").build()
    if name == "half_precision":  # it is there for graphs in fp32
        model = BY_NAME[name](model).model
    if name == "opset_17":
        model.opset_imports[""] = 17
    before = data(model)
    assert not BY_NAME[name](model, *SAMPLES[name].arguments).modified and data(model) == before


# --- broken passes ---


@pytest.mark.parametrize("name", sorted({*PASSES} - STATES))
def test_a_pass_that_does_nothing_is_caught_by_its_condition(name: str) -> None:
    idle = replace(BY_NAME[name], edit=lambda model, *arguments: False)
    with pytest.raises(Broken, match=f"^{name}: "):
        idle(SAMPLES[name].build(), *SAMPLES[name].arguments)


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_that_conceals_its_change_is_caught(name: str) -> None:
    liar = replace(BY_NAME[name], edit=lambda model, *arguments: BY_NAME[name].edit(model, *arguments) and False)
    with pytest.raises((AssertionError, Broken)):
        check(liar, SAMPLES[name])


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_that_changes_the_outputs_is_caught(name: str) -> None:
    def wrong(model: ir.Model, *arguments: Any) -> bool:
        changed = BY_NAME[name].edit(model, *arguments)
        if changed:  # once
            (old,) = model.graph.outputs
            node = ir.node("Neg", [old], name="wrong")
            node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = old.name, old.type, old.shape
            old.name = "right"
            model.graph.append(node)
            model.graph.outputs[0] = node.outputs[0]
        return changed

    with pytest.raises(AssertionError, match="Not equal"):
        check(replace(BY_NAME[name], edit=wrong), SAMPLES[name])


def _dangling(model: ir.Model) -> None:
    model.graph[-1].replace_input_with(0, ir.Value(name="ghost"))


def _early(model: ir.Model) -> None:
    last = model.graph[-1]
    model.graph.remove(last)
    model.graph.insert_before(model.graph[0], last)


def _doubled(model: ir.Model) -> None:
    model.graph[-1].name = model.graph[0].name


def _renamed(model: ir.Model) -> None:
    model.graph.outputs[0].name = "other"


def _retyped(model: ir.Model) -> None:
    model.graph.outputs[0].dtype = ir.DataType.FLOAT16


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_dangling, "reads ghost, which nothing before it computes"),
        (_early, "which nothing before it computes"),
        (_doubled, "2 operators are named"),
        (_renamed, "inputs and outputs were"),
        (_retyped, "inputs and outputs were"),
    ],
)
def test_a_pass_that_damages_the_graph_is_caught(name: str, damage: Callable[[ir.Model], None], message: str) -> None:
    def edit(model: ir.Model, *arguments: Any) -> bool:
        BY_NAME[name].edit(model, *arguments)
        damage(model)
        return False  # nothing is cleaned up

    with pytest.raises(Broken, match=f"(?s)^{name}: .*{message}"):
        replace(BY_NAME[name], edit=edit)(SAMPLES[name].build(), *SAMPLES[name].arguments)


def test_a_rewrite_that_never_ends_is_caught() -> None:
    @rewrite(lambda model: [(node,) for node in model.graph])
    def nothing(model: ir.Model, node: ir.Node) -> None:
        """x -> x"""

    with pytest.raises(Broken, match=r"^nothing: there is more to do at y \(and 1 more\)"):
        nothing(Sample("agraph (float[4] x) => (float[4] z) { y = Neg(x) z = Exp(y) }").build())


def test_the_result_of_a_pass_has_no_truth_value() -> None:
    with pytest.raises(TypeError, match=r"ask for \.modified"):
        bool(BY_NAME["merge_equal_pairs"](SAMPLES["merge_equal_pairs"].build()))


# --- whole models ---


@pytest.mark.parametrize("model", ["bert", "segformer"])
@pytest.mark.parametrize(
    ("backend", "target"),
    [("openvino", "auto"), ("onnxruntime", "auto"), ("tensorrt", "8.6"), ("tensorrt", "10")],
)
def test_no_pass_of_a_dialect_finds_work_behind_itself(
    model: str, backend: str, target: str, exported: Callable[[str], Recipe]
) -> None:
    folder = exported(model).folder
    overrides = {"folder": folder, "backend": backend, "tensorrt.target": target, "lowering.any_cpu": True}
    recipe = Recipe.load(model, overrides=overrides)
    candidates = Candidates(Run(recipe, Workspace(folder)))
    graph = candidates.lower(Choice("max", 99.9, migration=False), dialect=()).graph
    for name in backends.get(backend).dialect(recipe):
        BY_NAME[name](graph)
        once = data(graph)
        assert not BY_NAME[name](graph).modified and data(graph) == once, name
