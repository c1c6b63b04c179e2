"""The generated questions need reading, and the embedded BERT that answers them is what its score says."""

import itertools
import json
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from calibration.samples.passage_templates import KINDS
from calibration.samples.passages import generate_squad, passages, write_squad
from calibration.samples.seeds import CALIBRATION_SEED, EVALUATION_SEED, SELECTION_SEED, TRAIN_SEED
from helpers import ROOT
from helpers.qa_baselines import BASELINES, Example
from pipeline.checkpoints.bert_score import best_span, exact_match, f1, flatten, predict, score

CHECKPOINT = ROOT / "pipeline" / "checkpoints" / "bert"
SEEDS = (TRAIN_SEED, CALIBRATION_SEED, EVALUATION_SEED, SELECTION_SEED)


@pytest.fixture(scope="module")
def held_out() -> list[Example]:
    return flatten(generate_squad(EVALUATION_SEED, 1000))


@pytest.mark.parametrize("seed", SEEDS)
def test_equal_seeds_give_equal_documents_and_prefixes(seed: int) -> None:
    long, short = generate_squad(seed, 60), generate_squad(seed, 20)
    assert long == generate_squad(seed, 60)
    assert flatten(long)[:20] == flatten(short)


@pytest.mark.parametrize("questions", [1, 3, 4, 5, 250])
def test_document_is_valid_squad_with_the_asked_number_of_questions(questions: int, tmp_path: Path) -> None:
    write_squad(tmp_path / "squad.json", EVALUATION_SEED, questions)
    document = json.loads((tmp_path / "squad.json").read_text(encoding="utf-8"))
    assert document["version"] == "1.1"
    entries = [
        (paragraph["context"], qa)
        for article in document["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]
    assert len(entries) == len({qa["id"] for _, qa in entries}) == questions
    for context, qa in entries:
        assert qa["question"].endswith("?") and "{" not in qa["question"] + context
        for answer in qa["answers"]:
            assert context[answer["answer_start"] :].startswith(answer["text"]) and answer["text"]


@pytest.mark.parametrize("questions", [0, -3])
def test_no_questions_is_an_error(questions: int) -> None:
    with pytest.raises(ValueError, match=str(questions)):
        generate_squad(TRAIN_SEED, questions)


def test_marks_lie_where_they_say() -> None:
    for passage in itertools.islice(passages(EVALUATION_SEED), 300):
        for question in passage.questions:
            rivals = [passage.text[start:end] for start, end in question.rivals]
            assert question.answer in rivals and len(set(rivals)) > 1
            anchors = {passage.text[start:end].lower() for start, end in question.anchors}
            assert len(anchors) == 1 and anchors.pop() in question.text.lower()
            ((first, last),) = question.evidence
            assert passage.text[last - 1] == "." and (first == 0 or passage.text[first - 2 : first] == ". ")


def test_splits_share_no_passage_and_hardly_a_name() -> None:
    documents = [flatten(generate_squad(seed, 1000)) for seed in SEEDS]
    for one, other in itertools.combinations(documents, 2):
        assert not {context for _, context, _ in one} & {context for _, context, _ in other}
        assert not {(question, answers[0]) for question, _, answers in one} & {
            (question, answers[0]) for question, _, answers in other
        }


def test_questions_vary(held_out: list[Example]) -> None:
    openings = {" ".join(question.split()[:3]) for question, _, _ in held_out}
    attributes = sum(len(kind.attributes) for kind in KINDS)
    positions = [context.index(answers[0]) / len(context) for _, context, answers in held_out]
    assert attributes >= 40 and len(openings) >= 150
    assert all(sum(low <= p < low + 0.25 for p in positions) >= 100 for low in (0, 0.25, 0.5, 0.75))


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda baseline: baseline.__name__)
def test_shortcuts_fail(baseline: Any, held_out: list[Example]) -> None:
    # Word overlap is no shortcut but shallow reading: it may find half, not more.
    limit = 50 if baseline.__name__ == "word_overlap" else 40
    fitted_on = flatten(generate_squad(TRAIN_SEED, 1000))
    assert 0 < score(baseline(fitted_on, held_out), held_out)["f1"] < limit


@pytest.mark.parametrize(
    ("prediction", "answer", "overlap", "same"),
    [
        ("the Blue  River.", "blue river", 1.0, True),
        ("Blue", "blue river", 2 / 3, False),
        ("4,120", "4120", 1.0, True),
        ("green", "blue river", 0.0, False),
        ("", "blue", 0.0, False),
        ("river blue", "blue river", 1.0, False),
    ],
)
def test_metric_against_worked_examples(prediction: str, answer: str, overlap: float, same: bool) -> None:
    assert f1(prediction, ["zzz", answer]) == pytest.approx(overlap)
    assert exact_match(prediction, ["zzz", answer]) is same


def test_best_span_obeys_order_length_and_mask() -> None:
    import numpy as np

    start, end = np.full(40, -1.0), np.full(40, -1.0)
    start[[3, 20]], end[[2, 22, 39]] = [9, 5], [9, 4, 8]
    allowed = np.ones(40, dtype=bool)
    # (3, 2) would run backwards; (3, 39) and (20, 39) would be too long.
    assert best_span(start, end, allowed) == (20, 22)
    allowed[22] = False
    assert best_span(start, end, allowed)[1] != 22


def test_tokenizer_loses_nothing_but_case(held_out: list[Example]) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
    lengths = []
    for question, context, _ in held_out[::20]:
        encoded = tokenizer(question, context, return_offsets_mapping=True)
        assert tokenizer.unk_token_id not in encoded["input_ids"]
        spans = zip(encoded["offset_mapping"], encoded.sequence_ids(), strict=True)
        pieces = [context[start:end] for (start, end), part in spans if part == 1]
        assert "".join(pieces) == context.replace(" ", "")
        lengths.append(len(encoded["input_ids"]))
    assert mean(lengths) >= 60 and max(lengths) <= _score()["max_length"]


def test_checkpoint_is_small_fp16_and_scored() -> None:
    from safetensors import safe_open

    assert sum(path.stat().st_size for path in CHECKPOINT.iterdir()) <= 12 * 2**20
    with safe_open(CHECKPOINT / "model.safetensors", "numpy") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"F16"}  # noqa: SIM118
    recorded = _score()
    assert recorded["metric"] == "f1" and recorded["samples"] >= 500 and recorded["value"] >= 85
    assert recorded["f1_without_question"] < 40


def test_shipped_file_scores_what_it_says(held_out: list[Example]) -> None:
    examples = held_out[:128]
    again = score(predict(CHECKPOINT, examples, _score()["max_length"]), examples)
    # A mean over 128 questions strays from the mean over all by about 3 points (one standard error).
    assert again["f1"] == pytest.approx(_score()["value"], abs=9)
    swapped = [(held_out[-1 - at][0], context, answers) for at, (_, context, answers) in enumerate(examples)]
    assert score(predict(CHECKPOINT, swapped, _score()["max_length"]), swapped)["f1"] < 40


def _score() -> dict[str, Any]:
    score: dict[str, Any] = json.loads((CHECKPOINT / "score.json").read_text(encoding="utf-8"))
    return score
