"""What the held-out samples can prove: intervals of the drop, chance, and verdicts that say that they cannot judge."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers import qdq_models as models
from helpers import tiny
from helpers.command_line import Cli
from helpers.runs import options_of, recipe_for
from helpers.usable import USABLE
from pipeline import stages, tasks
from pipeline.artifacts import Workspace
from pipeline.judge import accuracy as measures
from pipeline.judge import bootstrap, verdict
from pipeline.judge.evaluation import PER_MODEL, Reference
from pipeline.recipe import Budgets
from pipeline.tasks import _answers, _tokens
from pipeline.tasks import image_classification as photo_classification
from pipeline.tasks import masked_language_modeling as masking
from pipeline.tasks import multi_label_classification as several
from pipeline.tasks import multiple_choice as choosing
from pipeline.tasks import question_answering as qa
from pipeline.tasks import semantic_segmentation as segmentation
from pipeline.tasks import sentence_embedding as embedding
from pipeline.tasks import text_classification as classification
from pipeline.tasks import text_regression as regression
from pipeline.tasks import token_classification as tagging

BUDGETS = Budgets(agreement=0.0)  # type: ignore[call-arg]
NAMES = np.array(["sky", "road", "tree", "car"])
UNLABELLED = 255  # of masks of bytes
WORDS = np.array([*tiny.COLOURS, *tiny.THINGS, *tiny.PLACES])


# --- samples of every task: labels, and predictions of which a share is right ---


def texts(rng: np.random.Generator, right: float, count: int = 200, shares: tuple[float, ...] = (0.5, 0.5)) -> Any:
    """Returns (predictions, labels) of a text classifier; wrong answers are the next class."""
    truth = rng.choice(len(shares), count, p=shares)
    found = np.where(rng.random(count) < right, truth, (truth + 1) % len(shares))
    return found, {"label": truth, "class_names": NAMES[: len(shares)], "text": truth.astype(str)}


def scenes(rng: np.random.Generator, right: float, count: int = 12) -> Any:
    """Returns (predictions, labels): label maps of blocks of 4×4 pixels, a share of whose pixels is right."""
    truth = rng.choice(4, (count, 8, 8), p=(0.4, 0.3, 0.2, 0.1)).repeat(4, 1).repeat(4, 2).astype(np.uint8)
    other = rng.permutation(truth.ravel()).reshape(truth.shape)
    found = np.where(rng.random(truth.shape) < right, truth, other)
    truth[:, 0] = UNLABELLED
    return found, {"mask": truth, "class_names": NAMES}


def asked(rng: np.random.Generator, right: float, count: int = 200) -> Any:
    """Returns (predictions, labels) of questions whose answer is one word of 24; wrong answers are words elsewhere."""
    found, rows = [], []
    for number in range(count):
        words = rng.choice(WORDS, 24)
        answer = str(rng.choice(words))
        found.append(answer if rng.random() < right else str(rng.choice(words)))
        rows.append({"id": str(number), "question": "?", "context": " ".join(words), "start": 0, "answers": [answer]})
    return found, {"sample": np.array([json.dumps(row) for row in rows])}


def sentences(rng: np.random.Generator, spread: float, count: int = 50) -> Any:
    """Returns (predictions, labels): unit vectors around one direction."""
    found = rng.standard_normal((count, 32)) * spread + np.eye(32)[0]
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found, {"text": np.arange(count).astype(str), "embedding": found}


TAGS = np.array(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])


def tagged(rng: np.random.Generator, right: float, count: int = 100, tags: np.ndarray = TAGS) -> Any:
    """Returns (predictions, labels) of words with a tag each, of which a share is right; wrong ones are any others."""
    truth = rng.choice(len(tags), (count, 12), p=np.array([0.6, 0.1, 0.1, 0.1, 0.1]) if len(tags) > 1 else None)
    found = np.where(rng.random(truth.shape) < right, truth, rng.permutation(truth.ravel()).reshape(truth.shape))
    truth[:, 8:] = tagging.IGNORED
    labels = {"label": truth, "class_names": tags, "words": np.array(["[]"] * count)}
    return tagging.predict({"logits": np.eye(len(tags))[found]}, labels), labels


def hot(rng: np.random.Generator, right: float, count: int = 100) -> Any:
    """Returns (predictions, labels) of three labels of which a text may have any."""
    truth = (rng.random((count, 3)) < (0.5, 0.3, 0.1)).astype(np.int64)
    found = np.where(rng.random(truth.shape) < right, truth, rng.permutation(truth))
    return found, {"label": truth, "class_names": NAMES[:3], "text": np.arange(count).astype(str)}


def numbers(rng: np.random.Generator, right: float, count: int = 100) -> Any:
    """Returns (predictions, labels) of a regression: a share of the truth, the rest noise."""
    truth = rng.random(count) * 5
    found = right * truth + (1 - right) * 5 * rng.random(count)
    return found, {"number": np.array([repr(float(x)) for x in truth]), "text": np.arange(count).astype(str)}


def chosen(rng: np.random.Generator, right: float, count: int = 200) -> Any:
    """Returns (predictions, labels) of questions with four choices."""
    truth = rng.integers(0, 4, count)
    found = np.where(rng.random(count) < right, truth, rng.integers(0, 4, count))
    choices = np.array([[f"{'x' * int(rng.integers(9))}{i}" for i in range(4)] for _ in range(count)])
    return found, {"label": truth, "choices": choices, "text": truth.astype(str)}


def masks(rng: np.random.Generator, right: float, count: int = 60) -> Any:
    """Returns (predictions, labels) of texts of ten tokens, three of them masked."""
    label = rng.choice(len(WORDS), (count, 10))
    found = np.where(rng.random(label.shape) < right, label, rng.choice(len(WORDS), label.shape))
    label[:, 3:] = _tokens.IGNORED
    labels = {"label": label, "vocabulary": WORDS, "text": np.arange(count).astype(str)}
    return masking.predict({"logits": np.eye(len(WORDS))[found]}, labels), labels


MADE: dict[str, tuple[ModuleType, Callable[..., Any]]] = {
    "texts": (classification, texts),
    "photos": (photo_classification, texts),  # labels are labels
    "scenes": (segmentation, scenes),
    "questions": (qa, asked),
    "sentences": (embedding, sentences),
    "tags": (tagging, tagged),
    "several labels": (several, hot),
    "numbers": (regression, numbers),
    "choices": (choosing, chosen),
    "masks": (masking, masks),
}


def proof(task: ModuleType, predictions: Any, labels: Any, engine: Any = None) -> dict[str, Any]:
    """Returns the `accuracy` section of these predictions of a float model and of an engine, by default the same."""
    before = task.tally(predictions, labels)
    after = before if engine is None else task.tally(engine, labels)
    scores = [bootstrap.score(task, tally) for tally in (before, after)]
    return {
        "metric": task.METRIC,
        "float": scores[0],
        "engine": scores[1],
        "relative_drop": verdict.relative_drop(*scores),
        "samples": len(predictions),
        **measures.what_it_proves(task, labels, predictions, before, after),
    }


# --- chance ---


def test_chance_of_labels_is_the_commonest() -> None:
    found, labels = texts(np.random.default_rng(0), 0.9, shares=(0.2, 0.7, 0.1))
    chance = proof(classification, found, labels)["chance"]
    assert chance["answer"] == "'road' for every text" and chance["score"] == (labels["label"] == 1).mean()


@pytest.mark.parametrize("right", [0.0, 0.5])
def test_chance_of_pixels_is_one_class_or_the_models_own_ones_at_random(right: float) -> None:
    """Against label maps that were really made so."""
    found, labels = scenes(np.random.default_rng(0), right)
    valid = labels["mask"] != UNLABELLED
    constant, own = segmentation.chance(found, labels, segmentation.tally(found, labels)).values()
    assert bootstrap.score(segmentation, constant) == pytest.approx(segmentation.score(np.zeros_like(found), labels))
    shuffled = found.copy()
    rng, scores = np.random.default_rng(1), []
    for _ in range(50):
        shuffled[valid] = rng.permutation(found[valid])
        scores.append(segmentation.score(shuffled, labels))
    assert bootstrap.score(segmentation, own) == pytest.approx(np.mean(scores), abs=0.005)


def test_chance_of_answers_is_what_does_not_look_at_the_question() -> None:
    context = "Ada built the old bridge in 1874"
    rows = [{"id": str(i), "question": "?", "context": context, "start": 0, "answers": [a]}
            for i, a in enumerate(["1874", "1874", "old bridge"])]  # fmt: skip
    labels = {"sample": np.array([json.dumps(row) for row in rows])}
    predictions = ["Ada", "Ada", "old bridge"]
    found = qa.chance(predictions, labels, qa.tally(predictions, labels))
    whole = 2 * 1 / (6 + 1), 2 * 2 / (6 + 2)  # of the context's six words one or two are right
    assert found["an empty answer"].tolist() == [0, 0, 0]
    assert found["the whole context"] == pytest.approx([whole[0], whole[0], whole[1]])
    assert found["the answer '1874' to everything"].tolist() == [1, 1, 0]
    assert found["its own answer 'Ada' to everything"].tolist() == [0, 0, 0]
    assert found["as many words anywhere in the context"][0] == pytest.approx(1 / 8)  # the last of 8 places


def test_a_context_is_put_together_from_its_windows() -> None:
    context = "Ada built the old bridge in 1874 in Marlow"
    windows = [{"id": "a", "question": "?", "context": context[b:e], "start": b, "answers": ["Marlow"]}
               for b, e in ((0, 20), (10, 30), (26, len(context)))]  # fmt: skip
    other = {**windows[0], "id": "b"}
    labels = {"sample": np.array([json.dumps(row) for row in (*windows, other)])}
    whole = qa.chance(["", ""], labels, np.zeros(2))["the whole context"]
    assert whole == pytest.approx([_answers.f1(context, "Marlow"), 0])


def test_chance_of_embeddings_is_one_for_all() -> None:
    found, labels = sentences(np.random.default_rng(0), 0.2)
    (answer,) = embedding.chance(found, labels, embedding.tally(found, labels)).values()
    vectors = np.random.default_rng(1).standard_normal((20, 32))
    others = [embedding.tally(x / np.linalg.norm(x), labels).mean() for x in vectors]
    assert answer.mean() == pytest.approx(np.linalg.norm(found.mean(0))) and answer.mean() > max(others)


# --- verdicts ---

JUDGED = {"texts": (0.9, "accuracy"), "photos": (0.9, "accuracy"), "scenes": (0.6, "miou"), "questions": (0.7, "f1"),
          "sentences": (0.2, "cosine"),
          "tags": (0.9, "f1"), "several labels": (0.9, "f1"), "numbers": (0.7, "pearson"),
          "choices": (0.7, "accuracy"), "masks": (0.6, "accuracy")}  # fmt: skip


@pytest.mark.parametrize("kind", JUDGED)
@pytest.mark.parametrize("seed", range(3))
def test_a_float_model_that_has_learnt_something_is_judged(kind: str, seed: int) -> None:
    task, make = MADE[kind]
    section = proof(task, *make(np.random.default_rng(seed), JUDGED[kind][0]))
    assert verdict.cannot_judge(section, BUDGETS) == [] and section["metric"] == JUDGED[kind][1]
    assert verdict.notes(section, BUDGETS) == []


def of_one_answer(make: Callable[..., Any]) -> Any:
    """Returns what `make` does with the first prediction for every sample."""
    found, labels = make(np.random.default_rng(0), 1.0)
    return (np.repeat(found[:1], len(found), 0) if isinstance(found, np.ndarray) else found[:1] * len(found)), labels


def upside_down(make: Callable[..., Any]) -> Any:
    found, labels = make(np.random.default_rng(0), 1.0)
    return -found, labels


def of_one_choice() -> Any:
    found, labels = chosen(np.random.default_rng(0), 0.7)
    return found, {**labels, "label": np.full_like(labels["label"], 2)}


def few_are_right(rng: np.random.Generator) -> Any:
    """Returns answers of which hardly any shares a word with the right one: F1 0.01, as on null contexts."""
    _, labels = asked(rng, 0.0, 400)
    return ["nothing" if i % 100 else json.loads(str(labels["sample"][i]))["answers"][0] for i in range(400)], labels


HOPELESS: dict[str, tuple[ModuleType, Callable[[], Any], str]] = {
    "labels of another model": (classification, lambda: texts(np.random.default_rng(0), 0.0), "not clearly above"),
    "labels at random": (classification, lambda: texts(np.random.default_rng(0), 0.5), "not clearly above"),
    "hardly better than the commonest label": (
        classification, lambda: texts(np.random.default_rng(1), 0.91, shares=(0.9, 0.1)), "not clearly above chance"),
    "four texts": (classification, lambda: texts(np.random.default_rng(2), 1.0, 4), "on 4 samples the difference is 0"),
    "one label predicted": (classification, lambda: of_one_answer(texts), "answers all 200 samples the same"),
    "one label": (classification, lambda: texts(np.random.default_rng(0), 0.9, shares=(1.0,)), "is labelled 'sky'"),
    "pixels at random": (segmentation, lambda: scenes(np.random.default_rng(0), 0.0), "is not clearly above chance"),
    "one map predicted": (segmentation, lambda: of_one_answer(scenes), "answers all 12 samples the same"),
    "one class predicted": (
        segmentation, lambda: (np.zeros((1, 32, 32), np.uint8), scenes(np.random.default_rng(0), 1, 1)[1]), "'sky' on"),
    "words anywhere": (qa, lambda: asked(np.random.default_rng(0), 0.0), "is not clearly above chance"),
    "hardly a right word": (qa, lambda: few_are_right(np.random.default_rng(0)), "f1 of 0.01"),
    "one answer given": (qa, lambda: of_one_answer(asked), "answers all 200 samples the same"),
    "embeddings nearly equal": (embedding, lambda: sentences(np.random.default_rng(0), 0.01), "for every text gets"),
    "tags at random": (tagging, lambda: tagged(np.random.default_rng(0), 0.0), "is not clearly above chance"),
    "one tag predicted": (tagging, lambda: of_one_answer(tagged), "answers all 100 samples the same"),
    "one tag": (tagging, lambda: tagged(np.random.default_rng(0), 1.0, tags=TAGS[:1]), "every word is labelled 'O'"),
    "labels of other texts": (several, lambda: hot(np.random.default_rng(0), 0.0), "is not clearly above chance"),
    "one set of labels predicted": (several, lambda: of_one_answer(hot), "answers all 100 samples the same"),
    "numbers at random": (regression, lambda: numbers(np.random.default_rng(1), 0.0), "one number for every text gets"),
    "numbers upside down": (regression, lambda: upside_down(numbers), "is not clearly above chance"),
    "one number predicted": (regression, lambda: of_one_answer(numbers), "answers all 100 samples the same"),
    "choices at random": (choosing, lambda: chosen(np.random.default_rng(0), 0.0), "is not clearly above chance"),
    "one choice": (choosing, lambda: of_one_choice(), "choice 2 is right of every question"),
    "masks filled at random": (masking, lambda: masks(np.random.default_rng(0), 0.0), "is not clearly above chance"),
    "one token predicted": (masking, lambda: of_one_answer(masks), "answers all 60 samples the same"),
    "one text": (embedding, lambda: sentences(np.random.default_rng(0), 1.0, 1), "there is one text"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOPELESS)
def test_a_float_model_near_chance_cannot_be_judged(case: str) -> None:
    task, make, said = HOPELESS[case]
    section = proof(task, *make())
    (reason,) = verdict.cannot_judge(section, BUDGETS)
    assert verdict.notes({**section, "drop_interval": {"relative_low": 0, "relative_high": 1}}, BUDGETS) == []
    assert reason.startswith("cannot judge: ") and said in reason


def test_what_is_not_a_number_is_not_above_chance() -> None:
    section = proof(*MADE["texts"][:1], *texts(np.random.default_rng(0), 0.9))
    for key in ("low", "score"):
        broken = {**section, "chance": {**section["chance"], key: float("nan")}}
        assert len(verdict.cannot_judge(broken, BUDGETS)) == 1
    assert len(verdict.cannot_judge({**section, "float": float("nan")}, BUDGETS)) == 1


def test_a_budget_that_an_answer_by_chance_meets_judges_nothing() -> None:
    """Float has 0.9 and always the same label 0.5: a drop of 40 % is more than half of what there is to lose."""
    section = proof(classification, *texts(np.random.default_rng(0), 0.9))
    assert verdict.cannot_judge(section, BUDGETS) == []
    loose = BUDGETS.model_copy(update={"relative_drop": 0.5})
    assert len(verdict.cannot_judge(section, loose)) == 1


def test_a_metric_that_is_waived_is_said_not_to_be_judged() -> None:
    section = proof(classification, *texts(np.random.default_rng(0), 0.5))
    waived = BUDGETS.model_copy(update={"relative_drop": 1.0})
    assert verdict.cannot_judge(section, waived) == []
    assert verdict.notes(section, waived) == ["accuracy is not judged: budgets.relative_drop is 1"]


@pytest.mark.parametrize(("classes", "fails"), [(5, False), (8, False), (9, True)])
def test_classes_without_a_sample_are_named_and_most_must_not_be_missing(classes: int, fails: bool) -> None:
    found, labels = scenes(np.random.default_rng(0), 0.7)
    labels["class_names"] = np.array([*NAMES, *(f"unseen {i}" for i in range(classes - 4))])
    section = proof(segmentation, found, labels)
    said = f"{classes - 4} of the {classes} classes are in no label of the held-out samples (unseen 0"
    reasons, notes = verdict.cannot_judge(section, BUDGETS), verdict.notes(section, BUDGETS)
    assert [reason.startswith(f"cannot judge: {said}") for reason in reasons] == [True] * fails
    assert [note.startswith(said) for note in notes] == [True]
    assert section["unseen"] == [f"unseen {i}" for i in range(classes - 4)]


# --- the sentences of a report that fails, and the limits themselves ---

REPORT: dict[str, Any] = {
    "accuracy": {
        "metric": "f1", "float": 0.8, "engine": 0.792, "relative_drop": 0.01, "agreement": 0.95, "sqnr_db": 15.0,
        "samples": 100, "chance": {"score": 0.1, "answer": "an empty answer", "low": 0.5, "high": 0.6},
        "unjudgeable": None, "classes": 4, "unseen": ["a", "b"],
        "drop_interval": {"relative_low": 0.0, "relative_high": 0.02},
    },
    "latency": {"speedup": {"median": 1.0, "low": 0.9, "high": 1.1}, "not_compared": None},
    "parity": {"faults": []},
    "batches": [{"batch": 2, "fault": None}],
}  # fmt: skip
ASKED = Budgets(relative_drop=0.01, agreement=0.95, sqnr_db=15.0, speedup=1.0)


def report(section: str, **changes: Any) -> dict[str, Any]:
    return {**REPORT, section: {**REPORT[section], **changes}}


def test_a_report_at_every_budget_passes() -> None:
    assert verdict.reasons(REPORT, ASKED) == []


MISSED: dict[str, tuple[dict[str, Any], str]] = {
    "drop": (report("accuracy", relative_drop=0.0101, engine=0.7919),
             "f1 drops by 1.01%, from 0.8000 to 0.7919; the budget is 1.00%"),
    "no drop at all": (report("accuracy", relative_drop=float("nan")),
                       "f1 drops by nan%, from 0.8000 to 0.7920; the budget is 1.00%"),
    "agreement": (report("accuracy", agreement=0.9499),
                  "a share of 0.9499 of the predictions equals the float model's; the budget is 0.95"),
    "sqnr": (report("accuracy", sqnr_db=14.9),
             "the SQNR of the outputs is 14.9 dB to the float model's; the budget is 15 dB"),
    "speed": (report("latency", speedup={"median": 0.99, "low": 0.9, "high": 1.1}),
              "the speed-up is 0.99 (95 % interval 0.90 to 1.10); the budget is 1"),
    "no speed": (report("latency", speedup=None, not_compared="it has no float graph"),
                 "the speed-up over float ONNX Runtime was not measured: it has no float graph; the budget is 1, and "
                 "--set budgets.speedup=0 asks for none"),
    "parity": (report("parity", faults=["y, alone: x"]), "the engine does not compute its graph: y, alone: x"),
    "batches": ({**REPORT, "batches": [{"batch": 1, "fault": None}, {"batch": 8, "fault": "y differs"}]},
                "batch 8: y differs"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISSED)
def test_a_miss_is_one_sentence(case: str) -> None:
    found, said = MISSED[case]
    assert verdict.reasons(found, ASKED) == [said]


def test_a_speed_up_that_nobody_asks_for_need_not_be_measured() -> None:
    without = report("latency", speedup=None, not_compared="no float graph")
    assert verdict.reasons(without, ASKED.model_copy(update={"speedup": 0.0})) == []


def test_a_budget_of_agreement_is_the_tasks_where_the_recipe_has_none() -> None:
    assert verdict.budgets(Budgets(), classification).agreement == 0.98  # type: ignore[call-arg]
    assert verdict.budgets(Budgets(agreement=0.0), classification).agreement == 0.0  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("changes", "judged"),
    [
        ({"low": 0.0081}, True),
        ({"low": 0.008}, False),  # an engine that does not look would be within the budget of 1 % of 0.8
        ({"score": 0.7894}, True),  # 0.05 of the way from there to 1
        ({"score": 0.79, "low": 0.5}, False),
        ({"score": 1.0, "low": 0.5}, False),
    ],
)
def test_how_far_above_chance_a_model_has_to_be(changes: dict[str, float], judged: bool) -> None:
    accuracy = {**REPORT["accuracy"], "chance": {**REPORT["accuracy"]["chance"], **changes}}
    assert (verdict.cannot_judge(accuracy, ASKED) == []) is judged


def test_a_model_at_chance_is_told_with_its_numbers() -> None:
    accuracy = {**REPORT["accuracy"], "chance": {**REPORT["accuracy"]["chance"], "low": -0.1}}
    assert verdict.cannot_judge(accuracy, ASKED) == [
        "cannot judge: the float model's f1 of 0.8000 is not clearly above chance: an empty answer gets 0.1000, and on "
        "100 samples the difference is -0.1000 to 0.6000; the labels may be another model's, or the samples too few"
    ]


@pytest.mark.parametrize(
    ("low", "high", "is_open"),
    [(0.0, 0.02, True), (0.01, 0.02, True), (0.011, 0.02, False), (0.0, 0.01, False), (0.0, 0.0101, True)],
)
def test_an_interval_around_the_budget_leaves_it_open(low: float, high: float, is_open: bool) -> None:
    accuracy = {**REPORT["accuracy"], "unseen": [], "relative_drop": 0.005}
    accuracy["drop_interval"] = {"relative_low": low, "relative_high": high}
    assert bool(verdict.notes(accuracy, ASKED)) is is_open


def test_where_no_number_of_samples_decides_it_is_said() -> None:
    accuracy = {**REPORT["accuracy"], "unseen": []}
    assert verdict.notes(accuracy, ASKED) == [
        "100 samples leave open whether f1 drops by more than the budget of 1.00%: no number of samples would decide"
    ]


@pytest.mark.parametrize(
    ("count", "named"),
    [(1, "c0"), (5, "c0, c1, c2, c3, c4"), (6, "c0, c1, c2, c3, c4, …"), (9, "c0, c1, c2, c3, c4, …")],
)
def test_five_classes_are_named(count: int, named: str) -> None:
    said = verdict.unseen([f"c{i}" for i in range(count)], 20)
    assert said == f"{count} of the 20 classes are in no label of the held-out samples ({named})"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(0.8, 0.6, 0.25), (-0.8, -1.0, 0.25), (-0.8, -0.6, -0.25), (0.0, 0.0, 0.0), (0.0, -0.1, 1.0), (0.0, 0.1, 0.0)],
)
def test_a_drop_is_relative_to_the_size_of_the_metric(before: float, after: float, expected: float) -> None:
    assert verdict.relative_drop(before, after) == pytest.approx(expected)


# --- intervals ---


@pytest.mark.parametrize("kind", MADE)
def test_draws_are_the_metric_of_the_samples_drawn(kind: str) -> None:
    """Again from the predictions themselves, sample by sample as often as they were drawn."""
    task, make = MADE[kind]
    rng = np.random.default_rng(3)
    found, labels = make(rng, 0.6)
    count = len(found)
    (values,) = bootstrap.resampled(task, task.tally(found, labels))
    assert values.shape == (bootstrap.RESAMPLES,)
    drawn = np.random.default_rng(bootstrap.SEED).multinomial(count, np.full(count, 1 / count), size=3)
    for times, value in zip(drawn, values, strict=False):
        at = np.repeat(np.arange(count), times)
        if task is qa:  # the same question twice has two ids
            rows = [{**json.loads(str(labels["sample"][i])), "id": str(n)} for n, i in enumerate(at)]
            again, picked = [found[i] for i in at], {"sample": np.array([json.dumps(row) for row in rows])}
        else:
            again = found[at] if isinstance(found, np.ndarray) else [found[i] for i in at]
            picked = {n: x if n in PER_MODEL else x[at] for n, x in labels.items()}
        assert value == pytest.approx(task.score(again, picked))


def test_the_interval_holds_the_true_drop_95_times_in_100() -> None:
    """Engines that lose one right answer in ten, seen through 200 samples each."""
    rng, held = np.random.default_rng(4), 0
    for _ in range(100):
        before = rng.random(200) < 0.9
        after = before & (rng.random(200) >= 0.1)
        found = bootstrap.drop_interval(classification, before.astype(float), after.astype(float))
        held += found["low"] <= 0.9 * 0.1 <= found["high"]
    assert 90 <= held <= 99


def test_the_interval_is_that_of_a_normal_mean_and_the_same_every_time() -> None:
    rng = np.random.default_rng(5)
    before = rng.random(1000)
    after = before - rng.normal(0.02, 0.1, 1000)
    found = bootstrap.drop_interval(classification, before, after)
    half = 1.96 * (before - after).std() / np.sqrt(1000)
    assert found["high"] - found["low"] == pytest.approx(2 * half, rel=0.1)
    assert found["relative_low"] == pytest.approx(found["low"] / before.mean(), rel=0.05)
    assert found == bootstrap.drop_interval(classification, before, after)
    assert (found["level"], found["resamples"]) == (0.95, 1000)


def test_equal_answers_leave_no_doubt_and_a_metric_of_zero_no_number() -> None:
    same = np.array([1.0, 0.0, 1.0])
    assert bootstrap.drop_interval(classification, same, same)["relative_high"] == 0
    found = bootstrap.drop_interval(classification, np.zeros(3), -np.ones(3))
    assert (found["low"], found["relative_low"], found["relative_high"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("drop", "interval", "expected"),
    [
        (0.005, (-0.005, 0.015), 400),  # the end is twice as far as the budget: four times the samples
        (0.02, (0.0, 0.04), 400),
        (0.005, (0.0, 0.0101), 105),  # (0.0051 / 0.005)² · 100
        (0.005, (0.0, 0.009), None),
        (0.02, (0.011, 0.04), None),
        (0.01, (0.0, 0.02), None),
    ],
)
def test_samples_that_would_decide(drop: float, interval: tuple[float, float], expected: int | None) -> None:
    assert bootstrap.samples_to_decide(drop, interval, 0.01, 100) == expected


def test_an_interval_that_holds_the_budget_is_said_with_the_samples_that_would_decide() -> None:
    found, labels = texts(np.random.default_rng(0), 0.9, 400)
    engine = found.copy()
    engine[:6] = 1 - engine[:6]  # a few answers, right ones mostly
    section = proof(classification, found, labels, engine)
    (note,) = verdict.notes(section, BUDGETS)
    (number,) = [int(word) for word in note.split() if word.isdigit() and word != "400"]
    assert note.startswith("400 samples leave open whether accuracy drops by more than the budget of 1.00%: about")
    many = proof(classification, np.tile(found, 2), {n: np.tile(x, 2) if n != "class_names" else x
                 for n, x in labels.items()}, np.tile(engine, 2))  # fmt: skip
    assert (verdict.notes(many, BUDGETS) == []) is (number < 800)


# --- the stages ---


def relabelled(folder: Path, backend: str, change: Callable[[dict[str, Any]], None]) -> Workspace:
    """Returns the folder of a small classifier whose held-out labels are changed in place."""
    workspace = models.export(folder, backend)
    with np.load(folder / "reference.npz") as archive:
        arrays = dict(archive)
    change(arrays)
    with workspace.staging("export", {}, {"seconds": 3.0, "peak_rss_bytes": 3}) as area:
        for file in ("model.onnx",):
            (area / file).write_bytes((folder / file).read_bytes())
        np.savez(area / "reference.npz", **arrays)
    return workspace


def to_one_label(arrays: dict[str, Any]) -> None:
    arrays["label/label"][:] = 0


def to_another_order(arrays: dict[str, Any]) -> None:
    arrays["label/label"] = (arrays["label/label"] + 1) % models.CLASSES


@pytest.mark.parametrize(
    ("change", "said"),
    [(to_one_label, "cannot judge: every text is labelled 'c0'"), (to_another_order, "is not clearly above chance")],
)
def test_verify_fails_where_nothing_is_proved(
    change: Callable[[dict[str, Any]], None], said: str, tmp_path: Path, cli: Cli, caplog: pytest.LogCaptureFixture
) -> None:
    folder, backend = tmp_path / "small", USABLE[0]
    relabelled(folder, backend, change)
    logging.getLogger("pipeline").setLevel(logging.INFO)
    stages.run("engine", models.recipe(folder, backend))
    common = ("bert", "--output", folder, "--backend", backend)
    small = [x for s in ("verification.threads=1", "verification.runs=6", "budgets.speedup=0") for x in ("--set", s)]
    answer = cli("verify", *common, *small)
    assert answer.code == 1 and "FAIL" in answer.out and said in answer.out
    report = json.loads((folder / "report.json").read_text())
    assert report["verdict"] == "fail" and report["reasons"][0].startswith("cannot judge: ")
    assert said.replace("'", "&#39;") in (folder / "report.html").read_text()
    waived = cli("verify", *common, *small, "--set", "budgets.relative_drop=1")
    assert waived.code == 0 and "accuracy is not judged: budgets.relative_drop is 1" in waived.out


def test_the_report_says_what_its_samples_prove(tmp_path: Path, cli: Cli) -> None:
    folder, backend = tmp_path / "small", USABLE[0]
    models.export(folder, backend)
    stages.run("engine", models.recipe(folder, backend))
    small = [x for s in ("verification.threads=1", "verification.runs=6", "budgets.speedup=0") for x in ("--set", s)]
    answer = cli("verify", "bert", "--output", folder, "--backend", backend, *small)
    assert answer.code == 0, answer
    accuracy = json.loads((folder / "report.json").read_text())["accuracy"]
    reference = Reference.read(Workspace(folder))
    interval, chance = accuracy["drop_interval"], accuracy["chance"]
    assert interval["low"] <= accuracy["drop"] <= interval["high"]
    shares = np.bincount(reference.labels["label"]) / reference.samples
    assert chance["score"] == pytest.approx(shares.max()) and chance["low"] > 0.01 * accuracy["float"]
    ends = [f"{interval[end]:+.2%}" for end in ("relative_low", "relative_high")]
    assert f"95 % interval {ends[0]} to {ends[1]})" in answer.out
    page = (folder / "report.html").read_text()
    assert f"has {chance['score']:.4f}; the float model {accuracy['float']:.4f}" in page and "95 % interval" in page


def masks_of(value: int) -> Callable[[Path], None]:
    def fill(data: Path) -> None:
        for path in (data / "masks").iterdir():
            Image.fromarray(np.full((64, 64), value, np.uint8)).save(path)

    return fill


def one_label(data: Path) -> None:
    rows = [line.split("\t")[0] for line in data.read_text().splitlines()[1:]]
    data.write_text("text\tlabel\n" + "".join(f"{text}\tLABEL_1\n" for text in rows))


def one_answer(data: Path) -> None:
    content = json.loads(data.read_text())
    for paragraph in content["data"][0]["paragraphs"]:
        paragraph["context"] += " the boat."
        paragraph["qas"][0]["answers"] = [{"text": "boat", "answer_start": paragraph["context"].index("boat")}]
    data.write_text(json.dumps(content))


BY_LABELS: dict[str, tuple[str, Callable[[Path], Path], Callable[[Path], None], str]] = {
    "no labelled pixel": ("segformer", tiny.scenes, masks_of(255), "no pixel of the 8 masks is labelled"),
    "one class": ("segformer", tiny.scenes, masks_of(2), "every labelled pixel of the masks is 'tree'"),
    "one label": ("classifier", tiny.table, one_label, "every text is labelled 'LABEL_1'"),
    "one answer": ("bert", tiny.squad, one_answer, "'boat' answers all 8 questions"),
}


@pytest.mark.parametrize("case", BY_LABELS)
def test_what_labels_alone_tell_stops_the_first_stage(
    case: str, checkpoints: dict[str, Path], tmp_path: Path, cli: Cli
) -> None:
    name, make, damage, said = BY_LABELS[case]
    data = make(tmp_path / "data.json" if name == "bert" else tmp_path / "data.tsv")
    damage(data)
    recipe = recipe_for(name, tmp_path / "out", checkpoints[name], data)
    answer = cli("quantize", recipe.family, *options_of(recipe))
    assert answer.code == 2 and f"cannot judge: {said}" in answer.err and str(data) in answer.err
    assert not (tmp_path / "out" / "quantizers.json").exists()
    waived = cli("quantize", recipe.family, *options_of(recipe), "--set", "budgets.relative_drop=1")
    assert waived.code == 0, waived.err


def test_classes_that_no_mask_holds_are_told_in_the_first_stage(
    checkpoints: dict[str, Path], tmp_path: Path, cli: Cli
) -> None:
    data = tiny.scenes(tmp_path / "scenes")
    for path in (data / "masks").iterdir():
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.where(mask == 3, 0, mask).astype(np.uint8)).save(path)
    answer = cli("quantize", "segformer", *options_of(recipe_for("s", tmp_path / "o", checkpoints["segformer"], data)))
    assert answer.code == 0 and "1 of the 4 classes are in no label of the held-out samples (car)" in answer.err


def test_photographs_are_read_one_by_one(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """A hundred of them at once would fill the memory."""
    data = tiny.scenes(tmp_path / "scenes")
    recipe = recipe_for("segformer", tmp_path / "o", checkpoints["segformer"], data)
    config = json.loads((checkpoints["segformer"] / "config.json").read_text())
    found = tasks.get("semantic-segmentation").samples(recipe, config, "evaluation", 8, folder=checkpoints["segformer"])
    for path in (data / "images").iterdir():
        path.write_bytes(b"")
    assert len(found) == 8 and len(found[2:5]) == 3
    with pytest.raises(Exception, match=r"\.png"):
        found[0]
