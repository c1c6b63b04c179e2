"""Which quantizers are on: the stored or the backend's policy, the recipe's word, operators without an amax."""

from __future__ import annotations

import re
from typing import Any

import pytest

from helpers.messages import all_of
from helpers.usable import USABLE
from pipeline import backends
from pipeline.backends._policy import KINDS, Policy
from pipeline.errors import InputError
from pipeline.lowering.placement import Decision, decide
from pipeline.recipe import Placement

PRODUCTS = Policy(kinds=frozenset({"linear", "conv", "depthwise", "embedding", "scores", "context"}))
NOTHING: dict[str, str] = {}


def quantizer(name: str, kind: str, site: str | None = None) -> dict[str, Any]:
    return {"name": name, "kind": kind, "site": site or name.rpartition(".")[0]}


QUANTIZERS = [
    quantizer("layer.0.query._input_quantizer", "linear"),
    quantizer("layer.0.query._weight_quantizer", "linear"),
    quantizer("layer.0.self.matmul_q_input_quantizer", "scores", "layer.0.self.scores"),
    quantizer("layer.0.self.matmul_k_input_quantizer", "scores", "layer.0.self.scores"),
    quantizer("layer.0.self.matmul_a_input_quantizer", "context", "layer.0.self.context"),
    quantizer("layer.0.self.matmul_v_input_quantizer", "context", "layer.0.self.context"),
    quantizer("layer.0.output.add_local_input_quantizer", "local", "layer.0.output.add"),
    quantizer("layer.0.output.add_residual_input_quantizer", "residual", "layer.0.output.add"),
    quantizer("patch._input_quantizer", "conv"),
    quantizer("patch._weight_quantizer", "conv"),
    quantizer("dw._input_quantizer", "depthwise"),
    quantizer("dw._weight_quantizer", "depthwise"),
    quantizer("words._weight_quantizer", "embedding"),
    quantizer("qa_outputs._input_quantizer", "head"),
    quantizer("qa_outputs._weight_quantizer", "head"),
    quantizer("embeddings.words._weight_quantizer", "embedding"),
    quantizer("decoder.sum_0_input_quantizer", "sum", "decoder.sum"),
    quantizer("decoder.sum_1_input_quantizer", "sum", "decoder.sum"),
]
QUANTIZERS += [
    quantizer(f"{kind}._input_quantizer", kind) for kind in KINDS if kind not in {q["kind"] for q in QUANTIZERS}
]


def on(decisions: list[Decision]) -> set[str]:
    return {d.name for d in decisions if d.enabled}


def decided(policy: Policy = PRODUCTS, degenerate: dict[str, str] = NOTHING, **choice: Any) -> list[Decision]:
    return decide(QUANTIZERS, policy, Placement(**choice), degenerate)


def test_the_policy_decides_by_kind() -> None:
    decisions = decided()
    assert [d.name for d in decisions] == [q["name"] for q in QUANTIZERS], "one decision each, in order"
    off = {d.kind for d in decisions if not d.enabled}
    assert off == set(KINDS) - PRODUCTS.kinds
    assert {d.kind for d in decisions if d.enabled} == PRODUCTS.kinds
    assert all(d.reason.startswith(f"{d.kind}: {'on' if d.enabled else 'off'}") for d in decisions)


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_of_one_kind(kind: str) -> None:
    assert {d.kind for d in decided(Policy(frozenset({kind}))) if d.enabled} == {kind}


@pytest.mark.parametrize(
    ("residual", "kinds"),
    [("none", set()), ("residual", {"residual"}), ("both", {"local", "residual"})],
)
@pytest.mark.parametrize("policy", [PRODUCTS, Policy(frozenset(KINDS))], ids=["off", "on"])
def test_the_recipes_residual_choice_wins_over_the_policy(residual: str, kinds: set[str], policy: Policy) -> None:
    decisions = decided(policy, residual=residual)
    assert {d.kind for d in decisions if d.enabled and d.kind in ("local", "residual")} == kinds
    assert all(d.reason == f"placement.residual = {residual}" for d in decisions if d.kind in ("local", "residual"))


def test_patterns_switch_on_and_then_off() -> None:
    base = on(decided())
    more = on(decided(enable=("qa_outputs.*", "*add_residual*")))
    names = {"qa_outputs._input_quantizer", "qa_outputs._weight_quantizer"}
    assert more == base | names | {"layer.0.output.add_residual_input_quantizer"}
    less = on(decided(enable=("qa_outputs.*",), disable=("*_weight_quantizer", "qa_*")))
    assert less == {n for n in base if not n.endswith("_weight_quantizer")}


def test_disable_wins_over_enable_and_says_so() -> None:
    (found,) = (
        d for d in decided(enable=("patch.*",), disable=("patch._input*",)) if d.name == "patch._input_quantizer"
    )
    assert not found.enabled and found.reason == "placement.disable: patch._input*"


def test_patterns_win_over_the_residual_choice() -> None:
    assert "layer.0.output.add_local_input_quantizer" in on(decided(residual="none", enable=("*add_local*",)))


def test_an_operator_with_one_operand_without_amax_stays_float_as_a_whole() -> None:
    degenerate = {"layer.0.self.matmul_a_input_quantizer": "no values", "patch._input_quantizer": "only zeros"}
    decisions = {d.name: d for d in decided(degenerate=degenerate)}
    for name in ("layer.0.self.matmul_a_input_quantizer", "layer.0.self.matmul_v_input_quantizer"):
        assert not decisions[name].enabled and decisions[name].reason == "stays float: no values"
    for name in ("patch._input_quantizer", "patch._weight_quantizer"):
        assert not decisions[name].enabled and decisions[name].reason == "stays float: only zeros"
    assert decisions["layer.0.self.matmul_q_input_quantizer"].enabled


def test_enable_cannot_give_a_scale_to_what_has_none() -> None:
    degenerate = {"qa_outputs._input_quantizer": "only zeros"}
    assert not on(decided(degenerate=degenerate, enable=("qa_outputs.*",))) & {
        "qa_outputs._input_quantizer",
        "qa_outputs._weight_quantizer",
    }


@pytest.mark.parametrize("where", ["enable", "disable"])
def test_a_pattern_that_matches_nothing_is_an_error_with_near_names(where: str) -> None:
    said = all_of(
        "'patch._inputs_quantizer' matches no quantizer",
        "'zzz*' matches no quantizer",
        "Did you mean patch._input_quantizer",
    )
    with pytest.raises(InputError, match=said):
        decided(**{where: ("*", "patch._inputs_quantizer", "zzz*")})


def test_patterns_are_case_sensitive_and_match_the_whole_name() -> None:
    for pattern in ("PATCH.*", "patch", "_input_quantizer"):
        with pytest.raises(InputError, match=f"{re.escape(repr(pattern))} matches no quantizer"):
            decided(disable=(pattern,))


def test_every_backends_policy_names_kinds_that_exist() -> None:
    assert USABLE
    for name in USABLE:
        kinds = backends.get(name).PLACEMENT.kinds
        assert kinds and kinds <= set(KINDS), name
