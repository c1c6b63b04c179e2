"""The report's comparisons of predictions, held against a handful of samples counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.judge import accuracy, parity
from pipeline.judge.evaluation import Reference
from pipeline.judge.parity import Limit
from pipeline.tasks import sentence_embedding, text_classification

NAMES = np.array(["sky", "road", "tree"])
LABELS = np.array([0, 0, 1, 1])


def logits(*classes: int, by: float = 1.0) -> np.ndarray:
    return by * np.eye(3, dtype=np.float32)[list(classes)]


def reference(*classes: int) -> Reference:
    labels = {"label": LABELS, "class_names": NAMES, "text": np.array(["a", "b", "c", "d"])}
    return Reference({"ids": np.arange(4)[:, None]}, {"logits": logits(*classes)}, labels)


def test_the_section_by_hand() -> None:
    engine = {"logits": logits(0, 1, 1, 0)}
    section, found, before = accuracy.accuracy(text_classification, reference(0, 0, 1, 0), engine)
    assert found.tolist() == [0, 1, 1, 0] and before.tolist() == [0, 0, 1, 0]
    assert section == {
        "metric": "accuracy",
        "float": 0.75,
        "engine": 0.5,
        "drop": 0.25,
        "relative_drop": pytest.approx(1 / 3),
        "agreement": 0.75,
        "sqnr_db": pytest.approx(10 * np.log10(4 / 2)),  # one of four answers is another
        "samples": 4,
        "per_sample": {"float": [1, 1, 1, 0], "engine": [1, 0, 1, 0]},
        "per_class": [{"name": "sky", "float": 1.0, "engine": 0.5}, {"name": "road", "float": 0.5, "engine": 0.5}],
    }


def test_what_it_proves_is_there_where_it_is_asked_for() -> None:
    engine = {"logits": logits(0, 1, 1, 0)}
    section, *_ = accuracy.accuracy(text_classification, reference(0, 0, 1, 0), engine, proof=True)
    assert section["chance"]["answer"] == "'sky' for every text" and section["chance"]["score"] == 0.5
    assert (section["classes"], section["unseen"], section["unjudgeable"]) == (3, ["tree"], None)
    assert section["drop_interval"]["low"] == 0 and section["drop_interval"]["high"] > 0.25


def test_without_labels_the_float_model_is_the_truth() -> None:
    hidden = np.eye(2, dtype=np.float32)[:, None]  # [N, S, H]
    labels = {"text": np.array(["a", "b"]), "attention_mask": np.ones((2, 1)), "pooling": np.array(["cls"])}
    held = Reference({"ids": np.arange(2)[:, None]}, {"last_hidden_state": hidden}, labels)
    section, *_ = accuracy.accuracy(sentence_embedding, held, {"last_hidden_state": hidden[::-1]})
    assert (section["float"], section["engine"], section["drop"]) == (1, 0, 1)
    assert "per_class" not in section and "chance" not in section


@pytest.mark.parametrize(
    ("classes", "said"),
    [((1, 1, 1, 1), "the float model answers all 4 samples the same"), ((1, 1, 1, 0), None), ((0, 1, 1, 1), None)],
)
def test_a_model_that_always_says_the_same_is_told(classes: tuple[int, ...], said: str | None) -> None:
    section, *_ = accuracy.accuracy(text_classification, reference(*classes), {"logits": logits(*classes)}, proof=True)
    assert section["unjudgeable"] == said


# --- batches ---

LIMITS = {"logits": Limit(1e-6, 1e-5, (-1e-3, 1e-3), (-1e-3, 1e-3))}
ROWS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def rows_of(engine: Any, sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    held = Reference({"x": ROWS}, {"logits": ROWS}, {"label": LABELS, "class_names": NAMES})
    return accuracy.batch_rows(text_classification, held, engine, {"logits": ROWS}, sizes, LIMITS)


def test_an_engine_that_does_not_mind_the_batch_has_no_fault() -> None:
    found = rows_of(lambda feeds: {"logits": feeds["x"]}, (1, 3))
    assert found == [
        {"batch": size, "max_abs_diff": 0.0, "cosine": 1.0, "agreement": 1.0, "fault": None} for size in (1, 3)
    ]


def test_a_batch_is_as_good_as_its_worst_sample_and_its_worst_output() -> None:
    def one_is_lost(feeds: dict[str, Any]) -> dict[str, Any]:
        x = feeds["x"].copy()
        x[-1] *= -1 if len(x) > 1 else 1
        return {"logits": x}

    alone, several = rows_of(one_is_lost, (1, 4))
    assert alone["fault"] is None
    assert several["cosine"] == pytest.approx(-1) and several["max_abs_diff"] == 2 * np.abs(ROWS[-1]).max()
    assert several["agreement"] == 0.75
    assert several["fault"].startswith("logits differs from the same samples alone: the difference has ")


def test_several_outputs_are_judged_by_the_worst(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"logits": ROWS, "other": ROWS}
    held = Reference({"x": ROWS}, both, {"label": LABELS, "class_names": NAMES})
    limits = {"logits": LIMITS["logits"], "other": LIMITS["logits"]}
    engine = {"logits": ROWS, "other": -ROWS}
    (row,) = accuracy.batch_rows(text_classification, held, lambda feeds: engine, both, (4,), limits)
    assert row["cosine"] == pytest.approx(-1) and row["max_abs_diff"] == parity.max_abs_diff(ROWS, -ROWS)
    assert row["fault"].startswith("other differs from the same samples alone") and "logits" not in row["fault"]


def test_a_batch_of_more_samples_than_there_are_repeats_them() -> None:
    held = Reference({"x": ROWS}, {"logits": ROWS}, {"label": LABELS, "class_names": NAMES})
    fed: list[Any] = []

    def engine(feeds: dict[str, Any]) -> dict[str, Any]:
        fed.append(feeds["x"])
        return {"logits": feeds["x"]}

    rows = accuracy.batches(text_classification, held, engine, {"logits": ROWS}, (1, 6), LIMITS)
    assert [(row["batch"], row["fault"]) for row in rows] == [(1, None), (6, None)]
    np.testing.assert_array_equal(fed[1], np.concatenate([ROWS, ROWS[:2]]))
    apart = accuracy.batches(text_classification, held, engine, {"logits": -ROWS}, (6,), LIMITS)
    assert "differs from the same samples alone" in apart[0]["fault"]


def test_what_json_cannot_write_is_none() -> None:
    value = {1: [np.float32(0.5), np.nan], "a": (np.int64(3), np.inf), "b": {"c": -np.inf, "d": "text", "e": True}}
    assert accuracy.finite(value) == {"1": [0.5, None], "a": [3, None], "b": {"c": None, "d": "text", "e": True}}
