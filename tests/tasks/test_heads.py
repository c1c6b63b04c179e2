"""A task on text brings its heads to every family of text models; what kind of labels a checkpoint has decides too."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import families, tasks
from pipeline.errors import InputError
from pipeline.tasks import _heads


def test_a_family_has_every_head_of_every_task_on_text() -> None:
    found, named = families.get("bert").TASKS, [head for _, head in _heads.heads()]
    assert set(found) == {f"Bert{head.name}" for head in named}
    assert _heads.of_family("Roberta") == {name.replace("Bert", "Roberta"): task for name, task in found.items()}
    assert set(_heads.outputs()) <= set(tasks.names()) and all(head.outputs for head in named)


@pytest.mark.parametrize("name", tasks.names())
def test_a_class_of_transformers_has_one_task_for_any_labels(name: str) -> None:
    own = [head for task, head in _heads.heads() if task == name]
    for head in own:
        others = [task for task, other in _heads.heads() if (other.name, other.problem) == (head.name, head.problem)
                  and not other.asked]  # fmt: skip
        assert others == [name] or head.asked


@pytest.mark.parametrize("family", ["bert"])
def test_heads_are_classes_of_transformers(family: str) -> None:
    import transformers

    assert [name for name in families.get(family).TASKS if not hasattr(transformers, name)] == []


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "single_label_classification"),
        ({"num_labels": 1}, "regression"),
        ({"id2label": {"0": "score"}}, "regression"),
        ({"num_labels": 3}, "single_label_classification"),
        ({"num_labels": 3, "problem_type": "multi_label_classification"}, "multi_label_classification"),
        ({"num_labels": 1, "problem_type": "single_label_classification"}, "single_label_classification"),
    ],
)
def test_the_kind_of_labels_is_what_transformers_takes_it_for(config: dict[str, Any], expected: str) -> None:
    assert _heads.problem_of(config) == expected


@pytest.mark.parametrize(
    ("architecture", "config", "asked", "expected"),
    [
        ("BertForSequenceClassification", {}, None, "text-classification"),
        ("BertForSequenceClassification", {"num_labels": 1}, None, "text-regression"),
        ("BertForSequenceClassification", {"problem_type": "multi_label_classification"}, None,
         "multi-label-classification"),
        ("BertForTokenClassification", {"num_labels": 1}, None, "token-classification"),
        ("BertModel", {}, None, "sentence-embedding"),
        ("BertModel", {}, "sentence-embedding", "sentence-embedding"),
        ("BertModel", {}, "hidden-states", "hidden-states"),
        ("BertModel", {}, "pooled-output", "pooled-output"),
        ("BertLMHeadModel", {}, None, "causal-language-modeling"),
    ],
)  # fmt: skip
def test_the_task_is_the_architectures_its_labels_or_what_is_asked_for(
    architecture: str, config: dict[str, Any], asked: str | None, expected: str
) -> None:
    task = families.get("bert").TASKS[architecture]
    assert _heads.for_checkpoint(task, architecture, config, asked) == expected


@pytest.mark.parametrize(
    ("architecture", "asked"),
    [("BertLMHeadModel", "hidden-states"), ("BertModel", "pooled-outputs"), ("BertModel", "")],
)
def test_a_task_that_the_architecture_is_not_for_is_told(architecture: str, asked: str) -> None:
    task = families.get("bert").TASKS[architecture]
    with pytest.raises(InputError, match=rf"task = '{asked}': {architecture} is not for that.* Available: "):
        _heads.for_checkpoint(task, architecture, {}, asked)


def test_axes_and_outputs_are_the_heads() -> None:
    assert _heads.axes_of({"architectures": ["BertForMultipleChoice"]}) == ("batch", "choices", "sequence")
    assert _heads.axes_of({"architectures": ["BertModel"]}) == _heads.axes_of({}) == ("batch", "sequence")
    assert _heads.expanded(("hidden_states_*",), 2) == ("hidden_states_0", "hidden_states_1", "hidden_states_2")
    assert _heads.expanded(("start_logits", "end_logits"), 2) == ("start_logits", "end_logits")
