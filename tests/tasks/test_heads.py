"""A task on text brings its heads to every family of text models; what kind of labels a checkpoint has decides too."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import families, tasks
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
        others = [task for task, other in _heads.heads() if (other.name, other.problem) == (head.name, head.problem)]
        assert others == [name]


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
