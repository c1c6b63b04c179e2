"""The result file of gpu-test: whose it is, what is added, and how often a step that kills everything is begun."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.gpu_documents import synthetic
from pipeline.bench.gpu_test import record
from pipeline.bench.gpu_test.record import Record
from pipeline.errors import InputError

FAST = "tensorrt_int8_both"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Returns a file without the rows of one method."""
    document = synthetic()
    document["rows"] = [row for row in document["rows"] if row["method"] != FAST]
    (tmp_path / "gpu.json").write_text(json.dumps(document))
    return tmp_path / "gpu.json"


def entry() -> dict[str, Any]:
    return {**synthetic()["rows"][3], "fault": None}


def test_a_step_that_ends_with_everything_is_begun_twice_and_then_has_a_fault(path: Path) -> None:
    for attempt in (1, 2):
        assert Record.open(path, synthetic()).begin("rows", entry())  # and nothing more: the program was killed
        assert json.loads(path.read_text())["attempts"] == {f"rows, gpu-bert-base, {FAST}": attempt}
    state = Record.open(path, synthetic())
    assert not state.begin("rows", entry())
    row = state.find("rows", "gpu-bert-base", FAST)
    assert row is not None and "killed 2 times while it worked on this; --retry" in row["fault"]
    assert json.loads(path.read_text())["attempts"] == {}
    assert state.begin("rows", entry()), "who asks for it again gets as many attempts again"


def test_timings_are_counted_by_batch(path: Path) -> None:
    state = Record.open(path, synthetic())
    for batch in (1, 1, 8):
        assert state.begin("timings", {"subject": "s", "batch": batch, "faults": {}, "ms": {}})
    assert not state.begin("timings", {"subject": "s", "batch": 1, "faults": {}, "ms": {}, "fault": None})
    assert state.document["attempts"] == {"timings, s, 8": 1}


def test_what_ended_well_or_by_hand_was_no_attempt(path: Path) -> None:
    state = Record.open(path, synthetic())
    for _ in range(5):
        assert state.begin("rows", entry())
        state.forget("rows", entry())
    assert state.begin("rows", entry())
    state.put("rows", entry())
    assert state.document["attempts"] == {}
    assert state.find("rows", "gpu-bert-base", FAST) == entry()


def test_an_entry_takes_the_place_of_the_one_before(path: Path) -> None:
    state = Record.open(path, synthetic())
    state.put("rows", {**entry(), "fault": "no"})
    state.put("rows", entry())
    assert [row["method"] for row in state.document["rows"]].count(FAST) == 1
    assert json.loads(path.read_text())["rows"] == synthetic()["rows"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("tensorrt", "8.6.1", "tensorrt 8.6.0, here 8.6.1"),
        ("gpu", "NVIDIA Other", "gpu NVIDIA Fake, here NVIDIA Other"),
        ("compute_capability", "8.6", "compute_capability 9.0, here 8.6"),
    ],
)
def test_a_file_of_another_machine_is_not_gone_on_with(key: str, value: str, said: str, path: Path) -> None:
    with pytest.raises(InputError, match=rf"was measured with {said}; give another --record"):
        Record.open(path, {**synthetic(), key: value})


def test_subjects_are_added_and_must_be_the_same(path: Path) -> None:
    about = synthetic()
    (known,) = about["subjects"]
    about["subjects"] = [{**known, "name": "other"}]
    state = Record.open(path, about)
    assert [subject["name"] for subject in state.document["subjects"]] == ["gpu-bert-base", "other"]
    assert not state.document["finished"] and len(state.document["rows"]) == 3
    about["subjects"] = [{**known, "digest": "another"}]
    with pytest.raises(InputError, match="was measured with other files of gpu-bert-base; give another --record"):
        Record.open(path, about)
    about["subjects"] = [{**known, "methods": [*known["methods"], "tensorrt_int8_residual"]}]
    assert len(Record.open(path, about).subject("gpu-bert-base")["methods"]) == 5, "what can run here now"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"gpu": "x"}'])
def test_a_file_of_something_else_is_not_overwritten(content: str, tmp_path: Path) -> None:
    (tmp_path / "gpu.json").write_text(content)
    with pytest.raises(InputError, match="is no result of gpu-test"):
        Record.open(tmp_path / "gpu.json", synthetic())
    assert (tmp_path / "gpu.json").read_text() == content


def test_a_timing_of_nothing_yet_says_what_is_tried() -> None:
    made = record.timing("s", 8, ["a", "b"])
    assert made["tried"] == ["a", "b"] and made["fault"] is None and made["ms"] == {}
