"""The baseline: what a report must keep, what counts as a regression and what as noise."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import baseline
from pipeline.errors import ArtifactError, InputError

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


@pytest.mark.parametrize("key", ["model", "checkpoint", "task", "backend"])
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
    with pytest.raises(InputError, match="--store-baseline"):
        baseline.read(tmp_path)


def test_a_report_of_another_form_is_not_stored(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"accuracy\.engine"):
        baseline.store(changed(accuracy__engine="good"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not a baseline"), ('{"format": 7}', "has format 7"), ('{"format": 1}', "lacks model, checkpoint")],
)
def test_a_damaged_baseline_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / baseline.FILE).write_text(content)
    with pytest.raises(ArtifactError, match=message):
        baseline.read(tmp_path)


def test_baseline_is_plain_json(tmp_path: Path) -> None:
    baseline.store(REPORT, tmp_path)
    assert json.loads((tmp_path / baseline.FILE).read_text())["latency"]["speedup"]["median"] == 3.0
