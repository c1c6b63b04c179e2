"""What all rules have in common: the order of findings, and hits that differ in severity or in targets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.lint_graphs import linear, pair, write
from pipeline.graph.view import View
from pipeline.lint import lint, rules
from pipeline.lint.findings import Place
from pipeline.lint.load import read
from pipeline.lint.rules import Hit, Rule


def test_the_worst_come_first_and_then_the_lower_numbers(tmp_path: Path) -> None:
    text = linear(f"{pair('x', 's_tiny')}", w=pair("narrow", "s3", "z3", axis=0, into="w"))
    found = [(f.severity, f.rule) for f in lint(write(tmp_path / "model.onnx", text)).findings]
    assert found == sorted(found, key=lambda pair: ("EWI".index(pair[0]), pair[1]))
    assert [rule for _, rule in found] != sorted(rule for _, rule in found), "not by number alone"


def view_of(folder: Path) -> View:
    return View(read(write(folder / "model.onnx", linear())).model)


def test_hits_are_grouped_by_severity_and_targets_and_told_once(tmp_path: Path) -> None:
    view = view_of(tmp_path)
    first, second = view.nodes[:2]

    def check(view: View) -> Iterator[Hit]:
        yield Hit(first, "a")
        yield Hit(first, "a")
        yield Hit(second, "b")
        yield Hit(None, "c", severity="I")
        yield Hit(second, "d", targets=("10",))
        yield Hit(second, "e", targets=("cpu",))  # whom the rule does not concern

    entry = Rule("Q99", {"8.6": "E", "10": "W"}, "A.", "B.", check)
    found = [(f.severity, f.targets, f.places) for f in rules._apply(entry, view, ("8.6", "10", "cpu"))]
    one, two = (Place(view.label(node)) for node in (first, second))
    assert found == [
        ("E", ("8.6",), (Place(one.node, "a"), Place(two.node, "b"))),
        ("W", ("10",), (Place(one.node, "a"), Place(two.node, "b"), Place(two.node, "d"))),
        ("I", ("8.6", "10"), (Place(None, "c"),)),
    ]
    assert [f.targets for f in rules._apply(entry, view, ("10",))] == [("10",), ("10",)]
    assert rules._apply(entry, view, ("cpu",)) == []


def test_a_rule_that_concerns_none_of_the_targets_is_not_asked(tmp_path: Path) -> None:
    def check(view: View) -> Iterator[Hit]:
        raise AssertionError("it was asked")
        yield

    entry = Rule("Q99", {"8.6": "E"}, "A.", "B.", check)
    assert rules._apply(entry, view_of(tmp_path), ("10", "cpu")) == []
    with pytest.raises(AssertionError, match="it was asked"):
        rules._apply(entry, view_of(tmp_path), ("8.6", "10"))


def test_a_severity_is_for_every_tensorrt_and_a_mapping_for_those_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "RULES", {})
    rules.rule("Q98", "W", "A.", "B.")(lambda view: [])
    rules.rule("Q97", {"cpu": "I"}, "A.", "B.")(lambda view: [])
    assert {id: dict(entry.severity) for id, entry in rules.RULES.items()} == {
        "Q98": {"8.6": "W", "10": "W"}, "Q97": {"cpu": "I"},
    }  # fmt: skip
    assert [entry.id for entry in rules.every_rule()][-2:] == ["Q97", "Q98"]
