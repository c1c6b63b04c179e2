"""The baseline: what a report must keep, what counts as a regression and what as noise."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ArtifactError, InputError
from pipeline.report import baseline

PERCENTILES = {"p50": 10.0, "p90": 11.0, "p99": 12.0, "mean": 10.2}
REPORT: dict[str, Any] = {
    "model": "bert", "checkpoint": "embedded", "family": "bert", "task": "question-answering",
    "backend": "openvino", "precision": "int8", "verdict": "pass", "reasons": [],
    "accuracy": {"metric": "f1", "float": 0.9, "engine": 0.895, "drop": 0.005, "relative_drop": 0.0056,
                 "agreement": 0.98, "sqnr_db": 25.0, "samples": 500},
    "latency": {"batch": 1, "shape": [1, 128], "threads": 2, "warmup": 3, "runs": 30, "float_ort": PERCENTILES,
                "engine": PERCENTILES, "speedup": {"median": 3.0, "low": 2.9, "high": 3.1},
                "samples": {"engine": [10.0]}},
    "batches": [{"batch": 1, "max_abs_diff": 0.1, "cosine": 0.999, "agreement": 1.0}],
    "size": {"float_onnx": 400, "qdq_onnx": 110, "engine": 100},
    "precision_report": {"int8_ops": 90, "float_ops": 40, "int8_flop_share": 0.98, "layers": [{"name": "a"}]},
    "calibration": {"method": "max", "batches": 8, "samples": 64, "seconds": 1.0},
    "environment": {"cpu": "this", "gpu": None, "threads": 2, "os": "linux", "versions": {}, "date": "2026"},
    "stages": [],
}  # fmt: skip


def changed(**values: Any) -> dict[str, Any]:
    """Returns a report with some values exchanged; 'accuracy__engine' is accuracy → engine."""
    report = copy.deepcopy(REPORT)
    for path, value in values.items():
        *parents, last = path.split("__")
        part = report
        for parent in parents:
            part = part[parent]
        part[last] = value
    return report


def regressions(report: dict[str, Any]) -> list[str]:
    return [c.name for c in baseline.compare(report, REPORT) if c.regression]


def test_an_equal_report_has_no_regression() -> None:
    changes = baseline.compare(REPORT, REPORT)
    assert [c.name for c in changes] == [
        "f1", "agreement", "speed-up", "engine bytes", "int8 share of the arithmetic",
    ]  # fmt: skip
    assert not any(c.regression for c in changes)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"accuracy__engine": 0.87}, ["f1"]),
        ({"accuracy__engine": 0.885}, []),  # 0.01 below: within the margin of 500 samples, 0.0175
        ({"accuracy__engine": 0.885, "accuracy__samples": 50_000}, []),  # the fewer samples decide
        ({"accuracy__engine": 0.95}, []),
        ({"accuracy__agreement": 0.93}, ["agreement"]),
        ({"latency__speedup": {"median": 2.7, "low": 2.6, "high": 2.8}}, ["speed-up"]),
        ({"latency__speedup": {"median": 2.8, "low": 2.6, "high": 2.95}}, []),  # the intervals meet
        ({"latency__speedup": {"median": 4.0, "low": 3.9, "high": 4.1}}, []),
        ({"size__engine": 103}, ["engine bytes"]),
        ({"size__engine": 101}, []),
        ({"precision_report__int8_flop_share": 0.9}, ["int8 share of the arithmetic"]),
    ],
)
def test_regressions(change: dict[str, Any], expected: list[str]) -> None:
    assert regressions(changed(**change)) == expected


def test_speed_of_another_machine_is_not_judged() -> None:
    slow = {"median": 1.0, "low": 0.9, "high": 1.1}
    report = changed(latency__speedup=slow, environment__cpu="another")
    (speed,) = [c for c in baseline.compare(report, REPORT) if c.name == "speed-up"]
    assert not speed.regression and "another machine" in str(speed)


def test_a_speed_up_that_was_not_measured_is_not_judged() -> None:
    without = changed(latency__speedup=None, latency__float_ort=None)
    for now, before, who in ((without, REPORT, "this run"), (REPORT, without, "the baseline")):
        (speed,) = [c for c in baseline.compare(now, before) if c.name == "speed-up"]
        assert (
            not speed.regression and f"not judged: {who} has none" in str(speed) and "3.00 [2.90, 3.10]" in str(speed)
        )


@pytest.mark.parametrize("key", ["family", "checkpoint", "task", "backend"])
def test_unequal_things_are_not_compared(key: str) -> None:
    with pytest.raises(InputError, match=f"the baseline is of {key}"):
        baseline.compare(changed(**{key: "other"}), REPORT)


def test_margin_covers_chance() -> None:
    """Runs that differ only in which d·n predictions flip, to right or wrong alike, stay within it 95 times in 100."""
    rng = np.random.default_rng(0)
    samples, share = 500, 0.02
    figures = {"agreement": 1 - share, "samples": samples}
    margin = baseline.accuracy_margin(figures, figures)
    falls = []
    for _ in range(2000):
        flips = rng.random((2, samples)) < share
        falls.append(float((flips * rng.choice([-1, 1], (2, samples))).sum(1) @ [1, -1]) / samples)
    assert 0.95 <= np.mean(np.array(falls) <= margin) < 1


def test_stored_and_read(tmp_path: Path) -> None:
    stored = baseline.store(REPORT, tmp_path)
    assert baseline.read(tmp_path) == stored
    assert "layers" not in stored["precision_report"] and "samples" not in stored["latency"]
    assert not any(c.regression for c in baseline.compare(REPORT, baseline.read(tmp_path)))


def test_stored_elsewhere(tmp_path: Path) -> None:
    baseline.store(REPORT, tmp_path, tmp_path / "baselines" / "bert.json")
    assert baseline.read(tmp_path, tmp_path / "baselines" / "bert.json")["model"] == "bert"
    with pytest.raises(InputError, match="to store one, run"):
        baseline.read(tmp_path)


def test_a_report_of_another_form_is_not_stored(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"accuracy\.engine"):
        baseline.store(changed(accuracy__engine="good"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a baseline"),
        ('{"format": 7}', "has format 7"),
        ('{"format": 1}', "has format 1, this version reads 2; to store it again"),
    ],
)
def test_a_damaged_baseline_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / baseline.FILE).write_text(content)
    with pytest.raises(ArtifactError, match=message):
        baseline.read(tmp_path)


def test_baseline_is_plain_json(tmp_path: Path) -> None:
    baseline.store(REPORT, tmp_path)
    assert json.loads((tmp_path / baseline.FILE).read_text())["latency"]["speedup"]["median"] == 3.0


# --- edited, of another form, of other things ---


def edit(path: Path, **values: Any) -> None:
    """Changes a stored baseline by hand: 'accuracy__engine' is accuracy → engine."""
    document = json.loads(path.read_text())
    for name, value in values.items():
        *parents, last = name.split("__")
        part = document
        for parent in parents:
            part = part[parent]
        part[last] = value
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "change",
    [{"accuracy__engine": 0.1}, {"latency__speedup": None}, {"size__engine": 10**9}, {"model": "x"}, {"more": 1},
     {"held_out": "x"}, {"digest": "0" * 16}, {"made_of__report": ""}, {"accuracy__metric": "miou"}],
)  # fmt: skip
def test_an_edited_baseline_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    baseline.store(REPORT, tmp_path)
    edit(tmp_path / baseline.FILE, **change)
    with pytest.raises(ArtifactError, match=r"was changed after it was stored; to store it again, run"):
        baseline.read(tmp_path)


def test_a_baseline_may_be_set_out_anew(tmp_path: Path) -> None:
    stored = baseline.store(REPORT, tmp_path)
    path = tmp_path / baseline.FILE
    path.write_text(json.dumps(stored, indent=4, sort_keys=True))
    assert baseline.read(tmp_path) == stored


def test_a_baseline_says_what_it_was_made_of(tmp_path: Path) -> None:
    judged = {"openvino/model.bin": "ab"}
    stored = baseline.store(changed(judged=judged, held_out="cd"), tmp_path)
    assert stored["made_of"]["engine"] == judged and stored["held_out"] == "cd"
    assert stored["made_of"]["report"] != baseline.store(REPORT, tmp_path)["made_of"]["report"]


def test_a_baseline_of_before_they_had_a_digest_is_stored_again(tmp_path: Path) -> None:
    baseline.store(REPORT, tmp_path)
    edit(tmp_path / baseline.FILE, format=1)
    with pytest.raises(ArtifactError, match=r"has format 1, this version reads 2; to store it again"):
        baseline.read(tmp_path)
    edit(tmp_path / baseline.FILE, format=baseline.FORMAT + 1)
    with pytest.raises(ArtifactError, match=r"has format 3, this version reads 2"):
        baseline.read(tmp_path)


def test_metrics_are_compared_by_name() -> None:
    with pytest.raises(InputError, match="the baseline is of metric 'f1', this report of 'accuracy'"):
        baseline.compare(changed(accuracy__metric="accuracy"), REPORT)


def test_other_samples_are_not_compared() -> None:
    with pytest.raises(InputError, match="the baseline is of held-out samples 'a', this report of 'b'"):
        baseline.compare(changed(held_out="b"), changed(held_out="a"))
    with pytest.raises(InputError, match="the baseline is of held-out samples 'None', this report of 'b'"):
        baseline.compare(changed(held_out="b"), REPORT)
    assert baseline.compare(changed(held_out="b"), changed(held_out="b"))


def test_a_folder_may_have_another_name_now() -> None:
    assert regressions(changed(model="renamed")) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "0.9", True, [0.9]])
@pytest.mark.parametrize(
    "name", ["accuracy__engine", "accuracy__agreement", "accuracy__samples", "size__engine", "latency__speedup__low",
             "precision_report__int8_flop_share"],
)  # fmt: skip
def test_what_is_no_number_is_not_compared(name: str, value: Any) -> None:
    """NaN compares false with everything: no regression would ever be seen."""
    for now, before, whose in ((changed(**{name: value}), REPORT, "this report"),
                               (REPORT, changed(**{name: value}), "the baseline")):  # fmt: skip
        with pytest.raises(ArtifactError, match=f"(?s)nothing to compare with.*{name.replace('__', '.')}.*{whose}"):
            baseline.compare(now, before)


def test_a_missing_number_is_not_compared() -> None:
    before = changed()
    del before["accuracy"]["agreement"]
    with pytest.raises(ArtifactError, match=r"accuracy\.agreement: Field required"):
        baseline.compare(REPORT, before)


@pytest.mark.parametrize(("now", "expected"), [(-0.5, ["f1"]), (-0.1, []), (0.3, [])])
def test_a_negative_metric_falls_downwards(now: float, expected: list[str]) -> None:
    before = changed(accuracy__engine=-0.1)
    assert [c.name for c in baseline.compare(changed(accuracy__engine=now), before) if c.regression] == expected
